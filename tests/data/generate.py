#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes the golden files beside this script: attention and its gradients by PyTorch, in double precision.

    apt-get install python3-torch && /usr/bin/python3 generate.py

A file is a list of entries "name rows columns" followed by the numbers, row by row. Heads lie side by side in columns, as in Heed.
`out` and `lse` are the results; `dq dk dv` (and `db`) are the gradients of sum(out * dout) + sum(lse * dlse).
"""
import math
import pathlib

import torch

torch.set_default_dtype(torch.float64)
here = pathlib.Path(__file__).parent


def write(name, entries):
    with open(here / f"{name}.txt", "w") as f:
        for key, value in entries.items():
            value = torch.as_tensor(value, dtype=torch.float64).detach()
            value = value.reshape(1, 1) if value.dim() == 0 else value
            f.write(f"{key} {value.shape[0]} {value.shape[1]}\n")
            for row in value.tolist():
                f.write(" ".join(repr(x) for x in row) + "\n")


def split(x, heads):
    """tokens x (heads * d) -> heads x tokens x d"""
    return x.reshape(x.shape[0], heads, -1).transpose(0, 1)


def join(x):
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def case(name, n, m, d, d_v, heads=1, key_heads=1, scale=None, mask=None, bias=None, alibi=False, softcap=None, gradients=False):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    q, k, v = draw(n, heads * d), draw(m, key_heads * d), draw(m, key_heads * d_v)
    entries = {"heads": heads, "key_heads": key_heads, "q": q, "k": k, "v": v}
    if bias is not None:
        bias = draw(*bias)
        entries["bias"] = bias
    if mask is not None:
        entries["mask"] = mask.double()
    leaves = [x.requires_grad_() for x in (q, k, v)] + ([bias.requires_grad_()] if bias is not None else [])

    group = heads // key_heads
    query = split(q, heads)
    key = split(k, key_heads).repeat_interleave(group, 0)
    value = split(v, key_heads).repeat_interleave(group, 0)
    scores = query @ key.transpose(1, 2) * (1 / math.sqrt(d) if scale is None else scale)
    if scale is not None:
        entries["scale"] = scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
        entries["softcap"] = softcap
    if alibi:  # a power of two of heads
        slopes = torch.tensor([2.0 ** (-8 * (h + 1) / heads) for h in range(heads)])
        distance = (torch.arange(n)[:, None] + (m - n) - torch.arange(m)[None, :]).abs()
        scores = scores - slopes[:, None, None] * distance
    if bias is not None:
        per_head = bias.shape[1] == heads * m
        scores = scores + (split(bias, heads) if per_head else bias)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    lse = torch.logsumexp(scores, 2)
    weights = torch.softmax(scores, 2)
    out = join(weights @ value)
    lse = lse.transpose(0, 1)
    entries["out"], entries["lse"] = out, lse
    if gradients:
        dout, dlse = draw(*out.shape), draw(*lse.shape)
        for key_name, x in zip(("dq", "dk", "dv", "db"), torch.autograd.grad((out * dout).sum() + (lse * dlse).sum(), leaves)):
            entries[key_name] = x
        entries["dout"], entries["dlse"] = dout, dlse
    write(name, entries)


def causal(n, m):
    return torch.arange(m)[None, :] <= torch.arange(n)[:, None] + (m - n)


def blocks(n, m):
    i, j = torch.arange(n)[:, None], torch.arange(m)[None, :]
    return ((i * 3 + j * 5) % 4 != 0) | (j == 1)


case("full", 9, 13, 6, 6, gradients=True)
case("values_of_another_width", 12, 10, 5, 9, scale=0.7, gradients=True)
case("causal", 17, 17, 5, 5, mask=causal(17, 17), gradients=True)
case("causal_more_keys", 5, 21, 8, 4, mask=causal(5, 21))
case("masked", 11, 19, 7, 3, mask=blocks(11, 19), gradients=True)
case("bias", 10, 12, 4, 4, bias=(10, 12), gradients=True)
case("bias_per_head", 7, 9, 4, 3, heads=3, key_heads=3, bias=(7, 27))
case("bias_per_key", 8, 9, 4, 3, bias=(1, 9), gradients=True)
case("grouped_heads", 9, 11, 4, 5, heads=6, key_heads=2, gradients=True)
case("alibi", 12, 16, 4, 3, heads=4, key_heads=4, mask=causal(12, 16), alibi=True, gradients=True)
case("softcap", 8, 8, 6, 6, softcap=1.5, gradients=True)
case("one_query", 1, 40, 8, 7, heads=4, key_heads=2, gradients=True)
case("tiles", 40, 50, 8, 4, mask=causal(40, 50))
