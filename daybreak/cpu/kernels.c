// What stands between a block's matrix products in training on a CPU, each in one pass over memory.
//
// kernels.py compiles this for one type of number at a time and functions.py calls it; the plain forms are in
// model/layers.py and model/rope.py. T is the type in memory, A that of the arithmetic. Arrays lie one row after the other, without
// gaps. Every sum runs within one picture, so that results do not depend on the number of threads.

typedef long long Int;
typedef unsigned int Bits;

#define PARALLEL _Pragma("omp parallel for schedule(static)")
#define INLINE static inline __attribute__((always_inline))
#define EACH(j, n) for (Int j = 0; j < (n); j++)

#if defined(FLOAT64)
typedef double T, A;
#elif defined(BFLOAT16)
typedef unsigned short T;
typedef float A;
#else
typedef float T, A;
#endif

#ifdef BFLOAT16
INLINE A load(T x) {
  Bits bits = (Bits)x << 16;
  A y;
  __builtin_memcpy(&y, &bits, 4);
  return y;
}
INLINE T low(A x) {  // to the nearest, ties to even; what is no number stays one
  Bits bits;
  __builtin_memcpy(&bits, &x, 4);
  Bits rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return x == x ? (T)rounded : (T)0x7fc0;
}
#else
INLINE A load(T x) { return x; }
INLINE T low(A x) { return x; }
#endif

// e^x for x <= 0.
#ifdef FLOAT64
INLINE A exponential(A x) { return __builtin_exp(x); }
#else
INLINE A exponential(A x) {  // 2^n times a polynomial on [-1/2, 1/2] log 2 (Cephes' expf), to 2e-7 of the result
  const A least = -87, clipped = x < least ? least : x;
  const A n = __builtin_floorf(clipped * 1.44269504f + 0.5f), r = (clipped - n * 0.693359375f) + n * 2.12194440e-4f;
  A p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  const Bits bits = (Bits)((int)n + 127) << 23;
  A power;
  __builtin_memcpy(&power, &bits, 4);
  return x == x ? (x < least ? 0 : p * power) : x;
}
#endif

INLINE A sigmoid(A x) {
  const A e = exponential(x > 0 ? -x : x);
  return (x > 0 ? 1 : e) / (1 + e);
}

// --- norm, modulation, residual --------------------------------------------------------------------------------------

// x, y, total, out [B, N, C]; gate, shift, scale [B, C], `row` values from one picture to the next.
// With y: total = x + gate y. With scale: out = (1 + scale) layernorm(total or x) + shift; moments [B, N, 2].
void modulate(Int b, Int n, Int c, const T *restrict x, const T *restrict gate, const T *restrict y,
              const T *restrict shift, const T *restrict scale, Int row, double eps, T *restrict total,
              T *restrict out, A *restrict moments) {
  PARALLEL
  for (Int i = 0; i < b * n; i++) {
    const Int p = i / n * row;
    A of[c];
    EACH(j, c) of[j] = load(x[i * c + j]);
    if (y) {
      EACH(j, c) total[i * c + j] = low(of[j] + load(gate[p + j]) * load(y[i * c + j]));
      EACH(j, c) of[j] = load(total[i * c + j]);
    }
    if (!scale) continue;
    A mean = 0, square = 0;
    EACH(j, c) mean += of[j];
    mean /= c;
    EACH(j, c) of[j] -= mean;
    EACH(j, c) square += of[j] * of[j];
    const A inverse = 1 / (A)__builtin_sqrt(square / c + eps);
    moments[2 * i] = mean, moments[2 * i + 1] = inverse;
    EACH(j, c) out[i * c + j] = low(of[j] * inverse * (1 + load(scale[p + j])) + load(shift[p + j]));
  }
}

// The gradient of total (or x): grad_total (or 0) and, with scale, what comes through the norm. It is grad_x, and with y
// goes on to grad_y. sums [B, 3, C]: the gradients of gate, shift and scale.
void modulate_backward(Int b, Int n, Int c, const T *restrict grad_total, const T *restrict grad_out,
                       const T *restrict total, const A *restrict moments, const T *restrict scale,
                       const T *restrict gate, const T *restrict y, Int row, T *restrict grad_x, T *restrict grad_y,
                       A *restrict sums) {
  PARALLEL
  for (Int p = 0; p < b; p++) {
    A *restrict of_gate = sums + 3 * p * c, *restrict of_shift = of_gate + c, *restrict of_scale = of_shift + c;
    A grad[c], normed[c], of_normed[c];
    EACH(j, 3 * c) of_gate[j] = 0;
    for (Int i = p * n; i < (p + 1) * n; i++) {
      EACH(j, c) grad[j] = grad_total ? load(grad_total[i * c + j]) : 0;
      if (scale) {
        const A mean = moments[2 * i], inverse = moments[2 * i + 1];
        A sum = 0, along = 0;
        EACH(j, c) {
          const A d = load(grad_out[i * c + j]);
          normed[j] = (load(total[i * c + j]) - mean) * inverse;
          of_shift[j] += d;
          of_scale[j] += d * normed[j];
          of_normed[j] = d * (1 + load(scale[p * row + j]));
        }
        EACH(j, c) sum += of_normed[j];
        EACH(j, c) along += of_normed[j] * normed[j];
        sum /= c, along /= c;
        EACH(j, c) grad[j] += inverse * (of_normed[j] - sum - normed[j] * along);
      }
      if (y) {
        EACH(j, c) of_gate[j] += grad[j] * load(y[i * c + j]);
        EACH(j, c) grad_y[i * c + j] = low(grad[j] * load(gate[p * row + j]));
      }
      if (grad_x) EACH(j, c) grad_x[i * c + j] = low(grad[j]);
    }
  }
}

// --- gated GELU in its tanh form, x sigmoid(k (x + c x^3)) -----------------------------------------------------------

static const A K = 1.5957691216057308, CUBE = 0.044715;

// gate_up [N, 2, H] -> out [N, H].
void gated_gelu(Int n, Int h, const T *restrict gate_up, T *restrict out) {
  PARALLEL
  for (Int i = 0; i < n; i++) {
    const T *gate = gate_up + 2 * i * h, *up = gate + h;
    EACH(j, h) {
      const A x = load(gate[j]);
      out[i * h + j] = low(x * sigmoid(K * x * (1 + CUBE * x * x)) * load(up[j]));
    }
  }
}

void gated_gelu_backward(Int n, Int h, const T *restrict grad, const T *restrict gate_up, T *restrict to) {
  PARALLEL
  for (Int i = 0; i < n; i++) {
    const T *gate = gate_up + 2 * i * h, *up = gate + h;
    A of_gate[h], of_up[h];
    EACH(j, h) {
      const A x = load(gate[j]), g = load(grad[i * h + j]), s = sigmoid(K * x * (1 + CUBE * x * x));
      of_gate[j] = g * load(up[j]) * (s + x * s * (1 - s) * K * (1 + 3 * CUBE * x * x));
      of_up[j] = g * x * s;
    }
    EACH(j, h) to[2 * i * h + j] = low(of_gate[j]);
    EACH(j, h) to[(2 * i + 1) * h + j] = low(of_up[j]);
  }
}

// --- QK-norm, rotation, heads ----------------------------------------------------------------------------------------

// B pictures of N image and L text tokens, H heads of D channels. qkv [B, N, 3, H, D], text_kv [B, L, 2, H, D]; weights
// of the norms w_q, w_k, w_text [D]; cos, sin [N, D], or [B, N, D] where `places` is N and not 0; q [B, H, N, D]; k and v
// [B, H, L + N, D]. Queries are multiplied by `scale`.
typedef struct {
  Int n, l, heads, d, places;
  const T *qkv, *text_kv;
  const A *weights[3], *cos, *sin;
  A scale, eps;
} Heads;

// x / rms(x) of one head of one token in n; returns 1 / rms(x).
INLINE A norm(const T *restrict x, Int d, A eps, A *restrict n) {
  A square = 0;
  EACH(j, d) n[j] = load(x[j]);
  EACH(j, d) square += n[j] * n[j];
  const A inverse = 1 / (A)__builtin_sqrt(square / d + eps);
  EACH(j, d) n[j] *= inverse;
  return inverse;
}

// Of y = w x / rms(x), with n = x / rms(x): the gradient of x, and that of w added up, from `grad` of y, which is spoilt.
INLINE void norm_backward(A *restrict grad, const A *restrict n, A inverse, const A *restrict w, Int d, A *restrict of_w,
                          T *restrict to) {
  A along = 0;
  EACH(j, d) of_w[j] += grad[j] * n[j];
  EACH(j, d) grad[j] *= w[j];
  EACH(j, d) along += grad[j] * n[j];
  along /= d;
  EACH(j, d) to[j] = low((grad[j] - n[j] * along) * inverse);
}

// Picture p. `d` is a.d, written as a number where the compiler is to know it.
INLINE void split(Heads a, Int p, Int d, T *restrict q, T *restrict k, T *restrict v) {
  const Int c = a.heads * d, m = a.l + a.n, half = d / 2;
  A x[d], y[d];
  EACH(i, a.l) EACH(head, a.heads) {
    const T *from = a.text_kv + (p * a.l + i) * 2 * c + head * d;
    const Int to = ((p * a.heads + head) * m + i) * d;
    norm(from, d, a.eps, x);
    EACH(j, d) k[to + j] = low(x[j] * a.weights[2][j]);
    EACH(j, d) v[to + j] = from[c + j];
  }
  EACH(i, a.n) {
    const A *cos = a.cos + (p * a.places + i) * d, *sin = a.sin + (p * a.places + i) * d;
    EACH(head, a.heads) {
      const T *from = a.qkv + (p * a.n + i) * 3 * c + head * d;
      const Int to_q = ((p * a.heads + head) * a.n + i) * d, to_k = ((p * a.heads + head) * m + a.l + i) * d;
      EACH(key, 2) {
        T *restrict to = key ? k + to_k : q + to_q;
        const A times = key ? 1 : a.scale;
        norm(from + key * c, d, a.eps, x);
        EACH(j, d) x[j] *= a.weights[key][j] * times;
        EACH(j, half) y[j] = x[j] * cos[j] + x[half + j] * sin[j];
        EACH(j, half) y[half + j] = x[half + j] * cos[half + j] + x[j] * sin[half + j];
        EACH(j, d) to[j] = low(y[j]);
      }
      EACH(j, d) v[to_k + j] = from[2 * c + j];
    }
  }
}

// sums [3, D]: the gradients of the weights.
INLINE void split_backward(Heads a, Int p, Int d, const T *restrict grad_q, const T *restrict grad_k,
                           const T *restrict grad_v, T *restrict grad_qkv, T *restrict grad_text_kv, A *restrict sums) {
  const Int c = a.heads * d, m = a.l + a.n, half = d / 2;
  A x[d], g[d];
  EACH(j, 3 * d) sums[j] = 0;
  EACH(i, a.l) EACH(head, a.heads) {
    const Int at = (p * a.l + i) * 2 * c + head * d, from = ((p * a.heads + head) * m + i) * d;
    const A inverse = norm(a.text_kv + at, d, a.eps, x);
    EACH(j, d) g[j] = load(grad_k[from + j]);
    norm_backward(g, x, inverse, a.weights[2], d, sums + 2 * d, grad_text_kv + at);
    EACH(j, d) grad_text_kv[at + c + j] = grad_v[from + j];
  }
  EACH(i, a.n) {
    const A *cos = a.cos + (p * a.places + i) * d, *sin = a.sin + (p * a.places + i) * d;
    EACH(head, a.heads) {
      const Int at = (p * a.n + i) * 3 * c + head * d;
      const Int from_q = ((p * a.heads + head) * a.n + i) * d, from_k = ((p * a.heads + head) * m + a.l + i) * d;
      EACH(key, 2) {
        const T *grad = key ? grad_k + from_k : grad_q + from_q;
        const A times = key ? 1 : a.scale, inverse = norm(a.qkv + at + key * c, d, a.eps, x);
        EACH(j, half) g[j] = (load(grad[j]) * cos[j] + load(grad[half + j]) * sin[half + j]) * times;
        EACH(j, half) g[half + j] = (load(grad[half + j]) * cos[half + j] + load(grad[j]) * sin[j]) * times;
        norm_backward(g, x, inverse, a.weights[key], d, sums + key * d, grad_qkv + at + key * c);
      }
      EACH(j, d) grad_qkv[at + 2 * c + j] = grad_v[from_k + j];
    }
  }
}

void split_heads(Int b, Int n, Int l, Int heads, Int d, const T *qkv, const T *text_kv, const A *w_q, const A *w_k,
                 const A *w_text, const A *cos, const A *sin, Int places, double scale, double eps, T *q, T *k, T *v) {
  const Heads a = {n, l, heads, d, places, qkv, text_kv, {w_q, w_k, w_text}, cos, sin, scale, eps};
  PARALLEL
  for (Int p = 0; p < b; p++) {
    if (d == 32) split(a, p, 32, q, k, v);
    else if (d == 64) split(a, p, 64, q, k, v);
    else split(a, p, d, q, k, v);
  }
}

// of_weights [B, 3, D].
void split_heads_backward(Int b, Int n, Int l, Int heads, Int d, const T *qkv, const T *text_kv, const A *w_q,
                          const A *w_k, const A *w_text, const A *cos, const A *sin, Int places, double scale,
                          double eps, const T *grad_q, const T *grad_k, const T *grad_v, T *grad_qkv, T *grad_text_kv,
                          A *of_weights) {
  const Heads a = {n, l, heads, d, places, qkv, text_kv, {w_q, w_k, w_text}, cos, sin, scale, eps};
  PARALLEL
  for (Int p = 0; p < b; p++) {
    A *sums = of_weights + 3 * p * d;
    if (d == 32) split_backward(a, p, 32, grad_q, grad_k, grad_v, grad_qkv, grad_text_kv, sums);
    else if (d == 64) split_backward(a, p, 64, grad_q, grad_k, grad_v, grad_qkv, grad_text_kv, sums);
    else split_backward(a, p, d, grad_q, grad_k, grad_v, grad_qkv, grad_text_kv, sums);
  }
}

// --- softmax ---------------------------------------------------------------------------------------------------------

// In place, logits [B, H, N, M] -> shares. A mask is added first, `picture` values from one picture to the next (or 0,
// one for all), `head` from one head to the next (or 0) and `row` from one query to the next (or 0).
void softmax(Int b, Int heads, Int n, Int m, const A *restrict mask, Int picture, Int head, Int row,
             T *restrict logits) {
  PARALLEL
  for (Int r = 0; r < b * heads * n; r++) {
    const A *restrict add = mask ? mask + r / n / heads * picture + r / n % heads * head + r % n * row : 0;
    T *restrict at = logits + r * m;
    const Int whole = (m + 15) & ~15;  // vectors alone, no rest to be done one by one
    A x[whole], lanes[16], most = -1e30, sum = 0;
    for (Int j = m; j < whole; j++) x[j] = -1e30;
    EACH(j, m) x[j] = load(at[j]);
    if (add) EACH(j, m) x[j] += add[j];
    EACH(i, 16) lanes[i] = x[i];
    for (Int j = 16; j < whole; j += 16) EACH(i, 16) lanes[i] = x[j + i] > lanes[i] ? x[j + i] : lanes[i];
    EACH(i, 16) most = lanes[i] > most ? lanes[i] : most;
    EACH(j, whole) x[j] = exponential(x[j] - most);
    EACH(j, whole) sum += x[j];
    const A share = 1 / sum;
    EACH(j, m) at[j] = low(x[j] * share);
  }
}

// In place, the gradient of shares -> that of logits. of_mask [B, N, M]: its sum over heads, where that is wanted.
void softmax_backward(Int b, Int heads, Int n, Int m, const T *restrict shares, T *restrict grads, A *restrict of_mask) {
  PARALLEL
  for (Int r = 0; r < b * n; r++) {
    A *restrict sums = of_mask + r * m;
    A grad[m], share[m];
    if (of_mask) EACH(j, m) sums[j] = 0;
    EACH(head, heads) {
      const Int at = ((r / n * heads + head) * n + r % n) * m;
      A along = 0;
      EACH(j, m) grad[j] = load(grads[at + j]);
      EACH(j, m) share[j] = load(shares[at + j]);
      EACH(j, m) along += grad[j] * share[j];
      EACH(j, m) grad[j] = share[j] * (grad[j] - along);
      EACH(j, m) grads[at + j] = low(grad[j]);
      if (of_mask) EACH(j, m) sums[j] += grad[j];
    }
  }
}

// --- cosine ----------------------------------------------------------------------------------------------------------

// x, y [N, C] -> the cosine of each row with its partner [N]; inverse [N, 2]: 1 / |x| and 1 / |y|, of at least `eps`.
void cosine(Int n, Int c, const T *restrict x, const T *restrict y, double eps, A *restrict to, A *restrict inverse) {
  PARALLEL
  for (Int i = 0; i < n; i++) {
    const T *restrict a = x + i * c, *restrict b = y + i * c;
    A along = 0, aa = 0, bb = 0;
    EACH(j, c) along += load(a[j]) * load(b[j]);
    EACH(j, c) aa += load(a[j]) * load(a[j]);
    EACH(j, c) bb += load(b[j]) * load(b[j]);
    const A of_a = (A)__builtin_sqrt(aa), of_b = (A)__builtin_sqrt(bb);
    inverse[2 * i] = 1 / (of_a < eps ? (A)eps : of_a);
    inverse[2 * i + 1] = 1 / (of_b < eps ? (A)eps : of_b);
    to[i] = along * inverse[2 * i] * inverse[2 * i + 1];
  }
}

// The gradient of x, from `grad` [N] of the cosines.
void cosine_backward(Int n, Int c, const A *restrict grad, const T *restrict x, const T *restrict y,
                     const A *restrict cosines, const A *restrict inverse, T *restrict to) {
  PARALLEL
  for (Int i = 0; i < n; i++) {
    const T *restrict a = x + i * c, *restrict b = y + i * c;
    const A of_a = inverse[2 * i], along = grad[i] * of_a * inverse[2 * i + 1], back = grad[i] * cosines[i] * of_a * of_a;
    EACH(j, c) to[i * c + j] = low(along * load(b[j]) - back * load(a[j]));
  }
}

// --- group norm and SiLU ---------------------------------------------------------------------------------------------

// x [B, P, C], a picture's pixels with their channels side by side, in `groups` of channels; weight and bias [C].
void group_norm_silu(Int b, Int p, Int c, Int groups, const T *restrict x, const A *restrict weight,
                     const A *restrict bias, double eps, T *restrict to) {
  Int at_once = 1;  // pixels, for loops of whole vectors
  while (at_once < 16 && at_once * c % 16 && p % (2 * at_once) == 0) at_once *= 2;
  const Int wide = at_once * c, n = p / at_once, each = c / groups;
  PARALLEL
  for (Int i = 0; i < b; i++) {
    const T *restrict of = x + i * p * c;
    T *restrict out = to + i * p * c;
    A sum[wide], scale[wide], shift[wide];
    EACH(j, wide) sum[j] = 0;
    EACH(k, n) EACH(j, wide) sum[j] += load(of[k * wide + j]);
    EACH(g, groups) {
      A all = 0;
      EACH(q, at_once) EACH(j, each) all += sum[q * c + g * each + j];
      EACH(q, at_once) EACH(j, each) shift[q * c + g * each + j] = all / (each * p);
    }
    EACH(j, wide) sum[j] = 0;
    EACH(k, n) EACH(j, wide) sum[j] += (load(of[k * wide + j]) - shift[j]) * (load(of[k * wide + j]) - shift[j]);
    EACH(g, groups) {
      A all = 0;
      EACH(q, at_once) EACH(j, each) all += sum[q * c + g * each + j];
      const A inverse = 1 / (A)__builtin_sqrt(all / (each * p) + eps);
      EACH(q, at_once) EACH(j, each) scale[q * c + g * each + j] = inverse * weight[g * each + j];
    }
    EACH(j, wide) shift[j] = bias[j % c] - shift[j] * scale[j];
    EACH(k, n) EACH(j, wide) {
      const A y = load(of[k * wide + j]) * scale[j] + shift[j];
      out[k * wide + j] = low(y * sigmoid(y));
    }
  }
}
