"""Writes a network with the measuring network's interface that labels by place and brightness alone.

Tests of what surrounds the network use it: it runs in a second, and what it must give is known for every voxel.
Left and right are told by the half of the box, lesions by brightness. It knows nothing of anatomy.
"""
import hashlib
import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h

GRID = [160, 192, 160]
CODES = [0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28, 41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60]
HERE = pathlib.Path(__file__).resolve().parent

nodes, constants = [], []


def constant(name, values, kind):
    array = np.asarray(values)
    constants.append(h.make_tensor(name, kind, array.shape, array.flatten().tolist()))
    return name


def node(op, inputs, **attributes):
    out = f"n{len(nodes)}"
    nodes.append(h.make_node(op, inputs, [out], **attributes))
    return out


def axis(n):
    shape = [1, 1, 1]
    shape[n] = GRID[n]
    return constant(f"axis{n}", np.arange(GRID[n], dtype=np.float32).reshape(shape), T.FLOAT)


def number(value):
    return constant(f"c{len(constants)}", np.float32(value).reshape([1]), T.FLOAT)


def within(place, low, high):
    above = node("GreaterOrEqual", [place, number(low)])
    return node("And", [above, node("Less", [place, number(high)])])


def block(away, xs, ys, zs):
    """Voxels by their distance from the middle plane, and by y and z."""
    return node("And", [node("And", [within(away, *xs), within(y, *ys)]), within(z, *zs)])


image = node("Reshape", ["image", constant("grid", GRID, T.INT64)])
x, y, z = axis(0), axis(1), axis(2)
head = node("Greater", [image, number(0.15)])
right = node("GreaterOrEqual", [x, number(80)])
away = node("Abs", [node("Sub", [x, number(79.5)])])


def sided(left_code, right_code):
    return node("Where", [right, number(CODES.index(right_code)), number(CODES.index(left_code))])


labels = sided(2, 41)
for codes, where in [
    ((3, 42), block(away, (50, 90), (0, 192), (0, 160))),
    ((8, 47), block(away, (0, 50), (30, 80), (20, 50))),
    ((4, 43), block(away, (0, 10), (70, 120), (80, 105))),
    ((17, 53), block(away, (18, 28), (75, 100), (60, 72))),
    ((10, 49), block(away, (2, 12), (80, 100), (66, 80))),
]:
    labels = node("Where", [where, sided(*codes), labels])
labels = node("Where", [head, labels, number(0)])
nodes.append(h.make_node("Cast", [labels], ["labels"], to=T.UINT8))
nodes.append(h.make_node("Where", [node("Greater", [image, number(1.35)]), number(0.95), number(0.02)], ["lesion"]))

counts = []
for index, code in enumerate(CODES):
    if code in (2, 41, 3, 42, 8, 47, 4, 43, 17, 53, 10, 49):
        same = node("Cast", [node("Equal", [labels, number(index)])], to=T.FLOAT)
        counts.append(node("Reshape", [node("ReduceSum", [same], keepdims=0), constant(f"one{index}", [1], T.INT64)]))
    else:
        counts.append(number(0))
nodes.append(h.make_node("Concat", counts, ["volumes_voxels"], axis=0))
there = node("Greater", ["volumes_voxels", number(0)])
nodes.append(h.make_node("Where", [there, number(0.9), number(0)], ["confidence"]))

graph = h.make_graph(
    nodes,
    "places",
    [h.make_tensor_value_info("image", T.FLOAT, [1, 1, *GRID])],
    [
        h.make_tensor_value_info("labels", T.UINT8, GRID),
        h.make_tensor_value_info("volumes_voxels", T.FLOAT, [len(CODES)]),
        h.make_tensor_value_info("confidence", T.FLOAT, [len(CODES)]),
        h.make_tensor_value_info("lesion", T.FLOAT, GRID),
    ],
    constants,
)
model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)
data = model.SerializeToString()
(HERE / "volumetry.onnx").write_bytes(data)
(HERE / "volumetry.toml").write_text(
    f"""# Written by make.py: for tests only, knows nothing of anatomy.
name = "volumetry"
version = "test"
file = "volumetry.onnx"
sha256 = "{hashlib.sha256(data).hexdigest()}"
codes = {CODES}

[input]
grid = {GRID}
spacing_mm = 1.0
"""
)
