"""The trunk both networks share: a U-Net whose work is done at half the input's resolution.

Axes are [batch, channel, x, y, z].  A thin branch at full resolution carries the edges past a stride-2
stem.  One channel tells the sides apart, so that the sided codes cost half the classes (measured: the loss
over 33 full-resolution channels costs as much as the network).
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F

EDGE = 16  # channels of the last full-resolution layers: 32 cost more than a third of the whole network

# torch 1.13 cannot normalise bf16 with fp32 weights on a CPU, 2.x can and is faster for it
MIXED_NORM = int(torch.__version__.split(".")[0]) >= 2


class Norm(nn.GroupNorm):
    """GroupNorm that stays in bf16 under autocast (on a GPU autocast would go through fp32: three times the traffic)."""

    def forward(self, x):
        if x.is_cuda:
            with torch.autocast("cuda", enabled=False):
                return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
        if MIXED_NORM or x.dtype == self.weight.dtype:
            return super().forward(x)
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Block(nn.Module):
    """Two 3x3x3 convolutions with GroupNorm and a residual; keeps the grid."""

    def __init__(self, cin: int, cout: int, groups: int = 8):
        super().__init__()
        self.c1 = nn.Conv3d(cin, cout, 3, padding=1, bias=False)
        self.n1 = Norm(groups, cout)
        self.c2 = nn.Conv3d(cout, cout, 3, padding=1, bias=False)
        self.n2 = Norm(groups, cout)
        self.skip = nn.Conv3d(cin, cout, 1, bias=False) if cin != cout else nn.Identity()

    def forward(self, x):
        h = F.silu(self.n1(self.c1(x)))
        return F.silu(self.n2(self.c2(h)) + self.skip(x))


class Down(nn.Module):
    """Halves the grid with a strided convolution."""

    def __init__(self, cin: int, cout: int, groups: int = 8):
        super().__init__()
        self.c = nn.Conv3d(cin, cout, 3, stride=2, padding=1, bias=False)
        self.n = Norm(groups, cout)

    def forward(self, x):
        return F.silu(self.n(self.c(x)))


def up2(x):
    """Doubles the grid; nearest neighbour: cheap on a CPU, exact in ONNX and smoothed by what follows."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Trunk(nn.Module):
    """Layers of four levels below a thin branch; `widths` from half resolution down, `outputs` channels of logits."""

    def __init__(self, widths, thin: int, outputs: int):
        super().__init__()
        w1, w2, w3, w4 = widths
        self.thin = nn.Conv3d(1, thin, 3, padding=1, bias=False)
        self.thin_n = Norm(min(8, thin), thin)
        self.d1 = Down(thin, w1)
        self.e1 = Block(w1, w1)
        self.d2 = Down(w1, w2)
        self.e2 = Block(w2, w2)
        self.d3 = Down(w2, w3)
        self.e3 = Block(w3, w3)
        self.d4 = Down(w3, w4)
        self.e4 = Block(w4, w4)
        self.u3 = nn.Conv3d(w4, w3, 1, bias=False)
        self.f3 = Block(w3, w3)
        self.u2 = nn.Conv3d(w3, w2, 1, bias=False)
        self.f2 = Block(w2, w2)
        self.u1 = nn.Conv3d(w2, w1, 1, bias=False)
        self.f1 = Block(w1, w1)
        self.out4 = nn.Conv3d(w1, outputs, 1)
        self.u0 = nn.Conv3d(w1, EDGE, 1, bias=False)
        self.t0 = nn.Conv3d(thin, EDGE, 1, bias=False)
        self.n0 = Norm(8, EDGE)
        self.c0 = nn.Conv3d(EDGE, EDGE, 3, padding=1, bias=False)
        self.n0b = Norm(8, EDGE)
        self.out2 = nn.Conv3d(EDGE, outputs, 1)

    def stem(self, image):
        """The thin branch at full resolution."""
        return F.silu(self.thin_n(self.thin(image)))

    def levels(self, x):
        """From the half-resolution level's input to its features, those of level 3 and the coarsest."""
        s1 = self.e1(x)
        s2 = self.e2(self.d2(s1))
        s3 = self.e3(self.d3(s2))
        s4 = self.e4(self.d4(s3))
        f3 = self.f3(up2(self.u3(s4)) + s3)
        f2 = self.f2(up2(self.u2(f3)) + s2)
        return self.f1(up2(self.u1(f2)) + s1), f3, s4

    def trunk(self, image):
        """Thin features, half-resolution features, level 3's and the coarsest."""
        thin = self.stem(image)
        return (thin, *self.levels(self.d1(thin)))

    def edges(self, thin, f1):
        """Full-resolution logits to add to the upsampled ones."""
        x = F.silu(self.n0(up2(self.u0(f1)) + self.t0(thin)))
        return self.out2(F.silu(self.n0b(self.c0(x))))
