"""The mask model in float64 NumPy, in the literal order of operations: the oracle of the tests.

Nothing is saved or shared here: features are projected at every prediction, masks are built at
stride 4 and resized, thresholds compare probabilities, keys and values are projected per layer and
per call, samples are taken one by one. Parameters are the flat variables of the model.
"""

import math

import numpy as np


class Variables:
    """Flat variables with a path prefix, as float64."""

    def __init__(self, flat, prefix):
        self.flat, self.prefix = flat, prefix

    def __call__(self, name):
        return np.asarray(self.flat[f"{self.prefix}/{name}"], np.float64)

    def has(self, name):
        return f"{self.prefix}/{name}" in self.flat

    def below(self, name):
        return Variables(self.flat, f"{self.prefix}/{name}")


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def dense(v, x):
    out = x @ v("kernel")
    return out + v("bias") if v.has("bias") else out


def layer_norm(v, x, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * v("scale") + v("bias")


def group_norm(v, x, groups):
    b, h, w, c = x.shape
    g = x.reshape(b, h, w, groups, c // groups)
    centred = g - g.mean((1, 2, 4), keepdims=True)
    g = centred / np.sqrt((centred**2).mean((1, 2, 4), keepdims=True) + 1e-5)
    return g.reshape(x.shape) * v("scale") + v("bias")


def mlp(v, x):
    for i in range(3):
        x = dense(v.below(f"layers_{i}"), x)
        x = np.maximum(x, 0) if i < 2 else x
    return x


def ffn(v, x):
    return dense(v.below("fc2"), np.maximum(dense(v.below("fc1"), x), 0))


def conv3x3(kernel, x):
    b, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((b, h, w, kernel.shape[-1]))
    for i in range(3):
        for j in range(3):
            out += padded[:, i : i + h, j : j + w] @ kernel[i, j]
    return out


def resize(x, hw):
    """Bilinear, half-pixel centres, no antialiasing; axes 1 and 2."""
    for axis, size in ((1, hw[0]), (2, hw[1])):
        length = x.shape[axis]
        at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, length - 1)
        shape = [1] * x.ndim
        shape[axis] = size
        part = (at - low).reshape(shape)
        x = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return x


def sample(x, point_xy):
    """One bilinear sample of a map (h, w, c) at a point in [0, 1], zero outside."""
    h, w, c = x.shape
    u, v = point_xy[0] * w - 0.5, point_xy[1] * h - 0.5
    out = np.zeros(c)
    for row in (math.floor(v), math.floor(v) + 1):
        for column in (math.floor(u), math.floor(u) + 1):
            if 0 <= row < h and 0 <= column < w:
                out += (1 - abs(u - column)) * (1 - abs(v - row)) * x[row, column]
    return out


def fourier(matrix, x, y):
    z = 2 * np.pi * ((2 * x - 1)[..., None] * matrix[0] + (2 * y - 1)[..., None] * matrix[1])
    return np.concatenate([np.sin(z), np.cos(z)], -1)


def sine(y, x, dim):
    """DETR's features of coordinates that are scaled to 2 pi already."""
    half = dim // 2
    out = []
    for coordinate in (y, x):
        features = np.zeros((*np.shape(coordinate), half))
        for i in range(half):
            angle = coordinate / 10000 ** (2 * (i // 2) / half)
            features[..., i] = np.sin(angle) if i % 2 == 0 else np.cos(angle)
        out.append(features)
    return np.concatenate(out, -1)


def encode_map(fixed, config, hw):
    h, w = hw
    y, x = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    if config.position_encoding == "fourier":
        return fourier(fixed("position_encoding/fourier_matrix"), (x + 0.5) / w, (y + 0.5) / h)
    scale = 2 * np.pi
    return sine((y + 1) / (h + 1e-6) * scale, (x + 1) / (w + 1e-6) * scale, config.dim)


def deformable_attention(v, config, queries, values, reference, shapes):
    b, count, dim = queries.shape
    heads = config.num_heads
    value = dense(v.below("value_proj"), values)
    offsets = dense(v.below("sampling_offsets"), queries).reshape(b, count, heads, 3, 4, 2)
    weights = softmax(
        dense(v.below("attention_weights"), queries).reshape(b, count, heads, 12)
    ).reshape(b, count, heads, 3, 4)
    starts = np.cumsum([0] + [h * w for h, w in shapes])
    out = np.zeros((b, count, heads, dim // heads))
    for i in range(b):
        for head in range(heads):
            channels = slice(head * dim // heads, (head + 1) * dim // heads)
            for level, (h, w) in enumerate(shapes):
                rows = value[i, starts[level] : starts[level + 1], channels].reshape(h, w, -1)
                for q in range(count):
                    for p in range(4):
                        dx, dy = offsets[i, q, head, level, p]
                        at = (reference[q, 0] + dx / w, reference[q, 1] + dy / h)
                        out[i, q, head] += weights[i, q, head, level, p] * sample(rows, at)
    return dense(v.below("output_proj"), out.reshape(b, count, dim))


def pixel_decoder(flat, config, trunk):
    """Returns mask_features, [stride 32, 16, 8] and the pyramid's last map."""
    v, fixed = Variables(flat, "params/pixel_decoder"), Variables(flat, "fixed/pixel_decoder")
    tokens, pos, reference, shapes = [], [], [], []
    for level, name in enumerate(("res5", "res4", "res3")):
        x = dense(v.below(f"input_proj_{level}"), trunk[name])
        norm = v.below(f"input_norm_{level}")
        if config.input_norm == "gn":
            x = group_norm(norm, x, config.num_groups)
        else:
            x = layer_norm(norm, x, 1e-6)
        b, h, w, d = x.shape
        tokens.append(x.reshape(b, h * w, d))
        encoding = encode_map(fixed, config, (h, w)).reshape(h * w, d)
        pos.append(encoding + v("level_embed")[level])
        reference += [((j + 0.5) / w, (i + 0.5) / h) for i in range(h) for j in range(w)]
        shapes.append((h, w))
    x, pos, reference = np.concatenate(tokens, 1), np.concatenate(pos), np.array(reference)
    for i in range(config.encoder_layers):
        layer = v.below(f"encoder_{i}")
        attended = deformable_attention(
            layer.below("self_attn"), config, x + pos, x, reference, shapes
        )
        x = layer_norm(layer.below("norm1"), x + attended, 1e-5)
        x = layer_norm(layer.below("norm2"), x + ffn(layer.below("ffn"), x), 1e-5)
    starts = np.cumsum([0] + [h * w for h, w in shapes])
    maps = [
        x[:, starts[i] : starts[i + 1]].reshape(-1, h, w, config.dim)
        for i, (h, w) in enumerate(shapes)
    ]
    steps = ["res2"] if config.fpn == "last" else ["res4", "res3", "res2"]
    y = maps[2] if config.fpn == "last" else maps[0]
    for name in steps:
        lateral = dense(v.below(f"lateral_{name}"), trunk[name])
        lateral = group_norm(v.below(f"lateral_norm_{name}"), lateral, config.num_groups)
        y = lateral + resize(y, lateral.shape[1:3])
        y = conv3x3(v(f"output_{name}/kernel"), y)
        y = np.maximum(group_norm(v.below(f"output_norm_{name}"), y, config.num_groups), 0)
    return dense(v.below("mask_features"), y), maps, y


def prompt_tokens(flat, config, mask_features, boxes, image_hw, prompt_type):
    """Returns (b, q, 7, d)."""
    v, fixed = Variables(flat, "params/prompt_encoder"), Variables(flat, "fixed/prompt_encoder")
    height, width = image_hw
    tokens = np.zeros((*boxes.shape[:2], config.masks_per_point + 3, config.dim))
    for i in range(boxes.shape[0]):
        for q in range(boxes.shape[1]):
            x0, y0, x1, y1 = boxes[i, q]
            content = sample(mask_features[i], ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height))
            kind = v("point_embed") if prompt_type == "point" else v("box_embed")
            for corner, (x, y) in enumerate(((x0, y0), (x1, y1))):
                if config.position_encoding == "fourier":
                    matrix = fixed("position_encoding/fourier_matrix")
                    encoding = fourier(matrix, np.float64(x / width), np.float64(y / height))
                else:
                    scaled = (y / (height + 1e-6) * 2 * np.pi, x / (width + 1e-6) * 2 * np.pi)
                    encoding = sine(*scaled, config.dim)
                token = encoding + v("corner_embed")[corner] + kind + content
                if prompt_type == "point":
                    token = token + v("click_embed")[1]
                tokens[i, q, corner] = token
            tokens[i, q, 2:] = v("mask_embed")
            if config.embed_all_tokens:
                tokens[i, q, 2:] += kind + content
    return tokens


def attention(v, queries, keys, values, attend=None):
    """Sequences (t, d) and (s, d); `attend` (t, s) is True where a query may attend."""
    heads, width = v("query/bias").shape
    out = np.zeros((queries.shape[0], heads, width))
    for head in range(heads):
        q, k, u = (
            x @ v(f"{name}/kernel")[:, head] + v(f"{name}/bias")[head]
            for x, name in ((queries, "query"), (keys, "key"), (values, "value"))
        )
        logits = q @ k.T / math.sqrt(width)
        if attend is not None:
            logits = np.where(attend, logits, -np.inf)
        out[:, head] = softmax(logits) @ u
    return np.einsum("thc,hcd->td", out, v("out/kernel")) + v("out/bias")


def mask_decoder(flat, config, mask_features, maps, tokens, prompt_type):
    """Returns lists over predictions: masks (b, q, k, h, w) and qualities (b, q, k) or None.

    The third list holds the share of prompts whose attention mask was empty.
    """
    v, fixed = Variables(flat, "params/mask_decoder"), Variables(flat, "fixed/mask_decoder")
    batch, prompts, count, dim = tokens.shape
    kinds = range(1, config.masks_per_point + 1) if prompt_type == "point" else [0]
    all_masks, all_ious, empty_shares = [], [], []

    def predict(x):
        normed = layer_norm(v.below("decoder_norm"), x, 1e-5)
        features = dense(v.below("feat_embed"), mask_features)
        masks, ious = [], []
        for kind in kinds:
            embed = mlp(v.below(f"mask_embed_{kind}"), normed[:, :, 2 + kind])
            masks.append(np.einsum("bqd,bhwd->bqhw", embed, features))
            if config.quality_head:
                quality = mlp(v.below(f"iou_embed_{kind}"), normed[:, :, 2 + kind])
                ious.append(sigmoid(quality[..., 0]))
        all_masks.append(np.stack(masks, 2))
        all_ious.append(np.stack(ious, 2) if ious else None)

    def within(layer, x, pos):
        out = np.zeros_like(x)
        for i in range(batch):
            for q in range(prompts):
                keys = x[i, q] + pos[i, q]
                out[i, q] = attention(v.below(layer), keys, keys, x[i, q])
        return out

    x = tokens + within("extra_self_attn", tokens, np.zeros_like(tokens))
    x = layer_norm(v.below("extra_norm"), x, 1e-5)
    predict(x)
    for layer in range(config.decoder_layers):
        level = layer % 3
        h, w = maps[level].shape[1:3]
        logits = all_masks[-1].reshape(-1, *all_masks[-1].shape[-2:])
        probs = sigmoid(resize(logits, (h, w))).reshape(batch, prompts, -1, h * w)
        union = (probs >= 0.5).any(2)
        empty_shares.append(float((~union.any(-1)).mean()))
        update = np.zeros_like(x)
        for i in range(batch):
            source = maps[level][i].reshape(h * w, dim) + v("level_embed")[level]
            keys = source + encode_map(fixed, config, (h, w)).reshape(h * w, dim)
            for q in range(prompts):
                attend = union[i, q] if union[i, q].any() else np.ones(h * w, bool)
                update[i, q] = attention(
                    v.below(f"cross_attn_{layer}"),
                    x[i, q] + tokens[i, q],
                    keys,
                    source,
                    np.broadcast_to(attend, (count, h * w)),
                )
        x = layer_norm(v.below(f"cross_norm_{layer}"), x + update, 1e-5)
        x = x + within(f"self_attn_{layer}", x, tokens)
        x = layer_norm(v.below(f"self_norm_{layer}"), x, 1e-5)
        x = x + ffn(v.below(f"ffn_{layer}"), x)
        x = layer_norm(v.below(f"ffn_norm_{layer}"), x, 1e-5)
        predict(x)
    return all_masks, all_ious, empty_shares


def random_variables(shapes, seed):
    """Draws flat variables in which nothing is zero, one or symmetric, as initial values are.

    Args:
      shapes: Nested tree of shapes, from `abstract_variables`.
      seed: Of NumPy's generator.

    Returns:
      Flat float32 arrays by path.
    """
    rng = np.random.default_rng(seed)
    flat = {}

    def draw(tree, path):
        for name in sorted(tree):
            where = f"{path}/{name}" if path else name
            if not hasattr(tree[name], "shape"):
                draw(tree[name], where)
                continue
            shape = tree[name].shape
            x = rng.standard_normal(shape)
            if name == "kernel":
                is_output = where.endswith("out/kernel")
                fan_in = math.prod(shape[:-1]) if is_output or len(shape) != 3 else shape[0]
                x = x / math.sqrt(fan_in)
            elif name == "scale":
                x = 1 + 0.2 * x
            elif name == "bias":
                x = 0.2 * x
            flat[where] = x.astype(np.float32)

    draw(shapes, "")
    return flat
