// The rival of tests/benchmarks/test_raster_speed.py: a plain z-buffer rasteriser in the manner of 3DDFA_V2's, written for this
// comparison. Each triangle's bounding box is walked pixel by pixel; a barycentric test in single precision decides what is
// inside; the nearer depth wins and the attributes of the three vertices are blended. One thread.
#include <algorithm>
#include <cmath>

static bool weights_of(float px, float py, const float* a, const float* b, const float* c, float* weights) {
    const float v0x = c[0] - a[0], v0y = c[1] - a[1];
    const float v1x = b[0] - a[0], v1y = b[1] - a[1];
    const float v2x = px - a[0], v2y = py - a[1];
    const float dot00 = v0x * v0x + v0y * v0y;
    const float dot01 = v0x * v1x + v0y * v1y;
    const float dot02 = v0x * v2x + v0y * v2y;
    const float dot11 = v1x * v1x + v1y * v1y;
    const float dot12 = v1x * v2x + v1y * v2y;
    const float determinant = dot00 * dot11 - dot01 * dot01;
    const float inverse = determinant == 0 ? 0 : 1 / determinant;
    const float u = (dot11 * dot02 - dot01 * dot12) * inverse;
    const float v = (dot00 * dot12 - dot01 * dot02) * inverse;
    weights[0] = 1 - u - v;
    weights[1] = v;
    weights[2] = u;
    return u >= 0 && v >= 0 && u + v < 1;
}

// vertices (count, 3), triangles (n, 3), attributes (count, channels); depth (h, w) and maps (h, w, channels) are overwritten.
extern "C" void scanline(const float* vertices, const int* triangles, const float* attributes, float* maps, float* depth,
                         int n, int channels, int h, int w) {
    std::fill(depth, depth + h * w, -1e30f);
    std::fill(maps, maps + h * w * channels, 0.f);
    for (int t = 0; t < n; t++) {
        const int ia = triangles[3 * t], ib = triangles[3 * t + 1], ic = triangles[3 * t + 2];
        const float *a = vertices + 3 * ia, *b = vertices + 3 * ib, *c = vertices + 3 * ic;
        const int left = std::max((int)std::ceil(std::min(a[0], std::min(b[0], c[0]))), 0);
        const int right = std::min((int)std::floor(std::max(a[0], std::max(b[0], c[0]))), w - 1);
        const int top = std::max((int)std::ceil(std::min(a[1], std::min(b[1], c[1]))), 0);
        const int bottom = std::min((int)std::floor(std::max(a[1], std::max(b[1], c[1]))), h - 1);
        if (right < left || bottom < top) continue;
        for (int y = top; y <= bottom; y++) {
            for (int x = left; x <= right; x++) {
                float weights[3];
                if (!weights_of((float)x, (float)y, a, b, c, weights)) continue;
                const float z = weights[0] * a[2] + weights[1] * b[2] + weights[2] * c[2];
                if (z <= depth[y * w + x]) continue;
                depth[y * w + x] = z;
                for (int k = 0; k < channels; k++)
                    maps[(y * w + x) * channels + k] = weights[0] * attributes[ia * channels + k] +
                                                       weights[1] * attributes[ib * channels + k] +
                                                       weights[2] * attributes[ic * channels + k];
            }
        }
    }
}
