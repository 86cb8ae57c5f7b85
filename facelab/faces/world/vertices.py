"""Compiled arithmetic on the vertices of one face; sums run in a fixed order, so a face has the same bits in any company."""

from __future__ import annotations

import math

import numba

kernel = numba.njit(cache=True, nogil=True)


@kernel
def face_vertices(mean, identity_basis, expression_basis, identity, expression, out):
    """X = mean + sum_k identity_k A_k + sum_e expression_e B_e, (V,3), summed in order."""
    flat = out.reshape(-1)
    flat[:] = mean.reshape(-1)
    for k in range(identity.shape[0]):
        if identity[k] != 0:
            flat += identity[k] * identity_basis[k].reshape(-1)
    for e in range(expression.shape[0]):
        if expression[e] != 0:
            flat += expression[e] * expression_basis[e].reshape(-1)


@kernel
def vertex_normals(vertices, triangles, out):
    """Unit normals (V,3): area-weighted means over a vertex's triangles."""
    out[:] = 0
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz
    for v in range(vertices.shape[0]):
        length = math.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2) + 1e-12
        out[v, 0] /= length
        out[v, 1] /= length
        out[v, 2] /= length


@kernel
def project(vertices, rotation, pivot, scale, x, y, out):
    """Weak perspective: pixels = (x, y) + scale R (X - pivot), y down; depth in the same unit, larger is nearer."""
    for v in range(vertices.shape[0]):
        a, b, c = vertices[v, 0] - pivot[0], vertices[v, 1] - pivot[1], vertices[v, 2] - pivot[2]
        out[v, 0] = x + scale * (rotation[0, 0] * a + rotation[0, 1] * b + rotation[0, 2] * c)
        out[v, 1] = y - scale * (rotation[1, 0] * a + rotation[1, 1] * b + rotation[1, 2] * c)
        out[v, 2] = scale * (rotation[2, 0] * a + rotation[2, 1] * b + rotation[2, 2] * c)
