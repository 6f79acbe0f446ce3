"""A small NIfTI-1 reader and writer in plain numpy.

Debian's python3-torch comes without nibabel, and the label maps, masks and reference scans need only
this much: single-file NIfTI-1, little endian, optional gzip, sform before qform.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

_DTYPES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "i1", 512: "<u2", 768: "<u4"}
_CODES = {np.dtype("u1"): 2, np.dtype("<i2"): 4, np.dtype("<i4"): 8, np.dtype("<f4"): 16, np.dtype("<u2"): 512}


def _qform(h: bytes, pixdim) -> np.ndarray:
    b, c, d, ox, oy, oz = struct.unpack("<6f", h[256:280])
    a = np.sqrt(max(0.0, 1.0 - b * b - c * c - d * d))
    r = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c]])
    qfac = -1.0 if pixdim[0] < 0 else 1.0
    m = np.eye(4)
    m[:3, :3] = r * np.array([pixdim[1], pixdim[2], pixdim[3] * qfac])
    m[:3, 3] = ox, oy, oz
    return m


def read(path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels [i,j,k] (scaled to float32 when the header scales, else as stored) and affine [4,4] to RAS mm."""
    path = Path(path)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as f:
        b = f.read()
    if struct.unpack("<i", b[:4])[0] != 348:
        raise ValueError(f"{path}: not a little-endian NIfTI-1 file")
    dim = struct.unpack("<8h", b[40:56])
    code = struct.unpack("<h", b[70:72])[0]
    pixdim = struct.unpack("<8f", b[76:108])
    offset, slope, inter = struct.unpack("<3f", b[108:120])
    if code not in _DTYPES:
        raise ValueError(f"{path}: data type {code} is not supported")
    shape = dim[1:4]
    data = np.frombuffer(b, _DTYPES[code], int(np.prod(shape)), int(offset)).reshape(shape, order="F")
    if slope not in (0.0, 1.0) or inter not in (0.0,) and not np.isnan(slope):
        if slope == slope and slope != 0:
            data = data.astype(np.float32) * slope + inter
    if struct.unpack("<h", b[254:256])[0] > 0:
        affine = np.vstack([np.array(struct.unpack("<12f", b[280:328])).reshape(3, 4), [0, 0, 0, 1]])
    else:
        affine = _qform(b, pixdim)
    return data, affine


def write(path, data: np.ndarray, affine: np.ndarray) -> None:
    """Writes voxels [i,j,k] with affine [4,4] (RAS mm) as .nii or .nii.gz; bytes depend on nothing else."""
    path = Path(path)
    data = np.asarray(data)
    h = bytearray(352)
    struct.pack_into("<i", h, 0, 348)
    struct.pack_into("<8h", h, 40, 3, *data.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", h, 70, _CODES[data.dtype], data.dtype.itemsize * 8)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))
    struct.pack_into("<8f", h, 76, 1, *spacing, 0, 0, 0, 0)
    struct.pack_into("<3f", h, 108, 352, 1, 0)
    h[123] = 2  # millimetres
    struct.pack_into("<2h", h, 252, 0, 1)
    struct.pack_into("<12f", h, 280, *affine[:3].ravel())
    h[344:348] = b"n+1\0"
    body = bytes(h) + data.tobytes(order="F")
    if path.suffix == ".gz":
        with open(path, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as z:
            z.write(body)
    else:
        path.write_bytes(body)
