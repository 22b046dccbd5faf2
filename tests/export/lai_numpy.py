"""LAi's files read and computed with NumPy alone, from LAi's published layout: shares nothing with `lmcore`.

Rotary positions turn numbers 2i and 2i + 1 of a head together, as LAi's trainer does.
"""

from __future__ import annotations

import struct

import numpy as np


def read_vocab(block):
    magic, version, count = struct.unpack_from("<III", block)
    assert (magic, version) == (0x4C414956, 1)
    at, tokens, scores = 12, [], []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", block, at)
        tokens.append(block[at + 4 : at + 4 + length])
        scores.append(struct.unpack_from("<f", block, at + 4 + length)[0])
        at += 8 + length
    return tokens, scores, at


def unpack_q8_0(content):
    numbers = []
    for at in range(0, len(content), 34):
        (d,) = struct.unpack_from("<e", content, at)
        numbers += [d * q for q in struct.unpack_from("<32b", content, at + 2)]
    return numbers


def unpack_q4_0(content):
    numbers = []
    for at in range(0, len(content), 18):
        (d,) = struct.unpack_from("<e", content, at)
        for byte in content[at + 2 : at + 18]:
            numbers += [d * ((byte & 15) - 8), d * ((byte >> 4) - 8)]
    return numbers


class LAi:
    """A model file, read to its last byte."""

    def __init__(self, path):
        content = path.read_bytes()
        assert content[:4] == b"LAi1"
        (self.version,) = struct.unpack_from("<I", content, 4)
        names = ("dim", "hidden", "layers", "heads", "kv_heads", "vocab", "max_seq")
        self.shape = dict(zip(names, struct.unpack_from("<7i", content, 8), strict=True))
        self.theta, self.eps = struct.unpack_from("<2f", content, 36)
        (self.activation,) = struct.unpack_from("<i", content, 44)
        self.dtype = content[48]
        self.vocab_offset, self.weights_offset = struct.unpack_from("<QQ", content, 49)
        self.padding = content[65:256]
        self.tokens, self.scores, length = read_vocab(content[self.vocab_offset :])
        assert self.vocab_offset + length == self.weights_offset
        self.at, self.content = self.weights_offset, content
        D, F, V = self.shape["dim"], self.shape["hidden"], self.shape["vocab"]
        K = D // self.shape["heads"] * self.shape["kv_heads"]
        self.embed, self.output, self.norm = self.f32(V, D), self.f32(V, D), self.f32(D)
        self.layers = []
        for _ in range(self.shape["layers"]):
            sizes = ((D, D), (K, D), (K, D), (D, D), (F, D), (F, D), (D, F))
            self.layers.append([self.matrix(*size) for size in sizes] + [self.f32(D), self.f32(D)])
        assert self.at == len(content)

    def f32(self, *shape):
        count = int(np.prod(shape))
        found = np.frombuffer(self.content, "<f4", count, self.at).reshape(shape)
        self.at += 4 * count
        return found.astype(np.float64)

    def matrix(self, *shape):
        if self.dtype == 0:
            return self.f32(*shape)
        size, unpack = {2: (18, unpack_q4_0), 3: (34, unpack_q8_0)}[self.dtype]
        count = shape[0] * shape[1] // 32 * size
        numbers = unpack(self.content[self.at : self.at + count])
        self.at += count
        return np.array(numbers).reshape(shape)

    def rms(self, x, weight):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + self.eps) * weight

    def turn(self, x):
        """(T, heads, W)."""
        T, heads, W = x.shape
        angle = np.arange(T)[:, None] / self.theta ** (np.arange(0, W, 2) / W)  # (T, W / 2)
        z = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[:, None]
        return np.stack((z.real, z.imag), -1).reshape(T, heads, W)

    def logits(self, ids):
        """(T, V) of T ids."""
        T, H, K = len(ids), self.shape["heads"], self.shape["kv_heads"]
        x = self.embed[ids]
        for wq, wk, wv, wo, gate, up, down, attn_norm, ffn_norm in self.layers:
            h = self.rms(x, attn_norm)
            q = self.turn((h @ wq.T).reshape(T, H, -1))
            k = self.turn((h @ wk.T).reshape(T, K, -1)).repeat(H // K, axis=1)
            v = (h @ wv.T).reshape(T, K, -1).repeat(H // K, axis=1)
            scores = np.einsum("thw,shw->hts", q, k) / np.sqrt(q.shape[-1])
            scores[:, np.triu(np.ones((T, T), dtype=bool), 1)] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            x = x + np.einsum("hts,shw->thw", weights, v).reshape(T, -1) @ wo.T
            h = self.rms(x, ffn_norm)
            g = h @ gate.T
            x = x + (g / (1 + np.exp(-g)) * (h @ up.T)) @ down.T
        return self.rms(x, self.norm) @ self.output.T

    def greedy(self, ids, count):
        ids = list(ids)
        for _ in range(count):
            ids.append(int(self.logits(ids)[-1].argmax()))
        return ids[-count:]
