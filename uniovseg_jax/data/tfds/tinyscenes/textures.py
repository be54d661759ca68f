"""Textures of the eight kinds of stuff, as large tiles that scenes cut windows from.

A tile is made once per world: its base colour, grain and proportions are drawn from the world's
seed, so that another seed gives visibly other grass. All scenes show it at one pixel scale.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

Number = float | int
Rgb = tuple[Number, Number, Number]
TILE = 512  # side in pixels: four times the area of a scene, so windows differ


def smooth_noise(
    rng: np.random.Generator, cell_yx: tuple[Number, Number]
) -> Float[np.ndarray, "t t"]:
    """Unit-variance noise whose grains are `cell_yx` pixels high and wide."""
    rows, cols = (int(np.ceil(TILE / cell)) + 1 for cell in cell_yx)
    grid = Image.fromarray(rng.standard_normal((rows, cols)).astype(np.float32))
    noise = np.asarray(grid.resize((TILE, TILE), Image.Resampling.BICUBIC))
    return (noise - noise.mean()) / noise.std()


def _tint(base: Rgb, brightness: Float[np.ndarray, "t t"]) -> Float[np.ndarray, "t t 3"]:
    return np.asarray(base, np.float32) * (1.0 + brightness[..., None])


def _mix(
    dark: Float[np.ndarray, "t t 3"], light: Rgb, amount: np.ndarray
) -> Float[np.ndarray, "t t 3"]:
    amount = np.clip(amount, 0.0, 1.0)[..., None]
    return dark * (1.0 - amount) + np.asarray(light, np.float32) * amount


def _grass(rng: np.random.Generator, yx: np.ndarray) -> np.ndarray:
    blades = smooth_noise(rng, (rng.uniform(8, 12), 2.0)) + 0.6 * smooth_noise(rng, (5, 2))
    patches = smooth_noise(rng, (50, 50))
    return _tint((72, 122, 48), 0.24 * blades + 0.1 * patches)


def _sand(rng: np.random.Generator, yx: np.ndarray) -> np.ndarray:
    warp = smooth_noise(rng, (40, 60))
    period = rng.uniform(15, 21)
    ripples = np.sin(2 * np.pi * (yx[0] + rng.uniform(0.2, 0.5) * yx[1]) / period + 1.6 * warp)
    return _tint((212, 186, 138), 0.06 * ripples + 0.07 * smooth_noise(rng, (1.5, 1.5)))


def _water(rng: np.random.Generator, yx: np.ndarray) -> np.ndarray:
    warp = smooth_noise(rng, (20, 34))
    waves = np.sin(2 * np.pi * yx[0] / rng.uniform(17, 23) + 1.8 * warp)
    deep = _tint((28, 92, 138), 0.14 * smooth_noise(rng, (30, 70)))
    return _mix(deep, (140, 200, 220), np.clip(waves - 0.35, 0, 1) * 0.9)


def _brick(rng: np.random.Generator, yx: np.ndarray) -> np.ndarray:
    height, width = int(rng.integers(16, 20)), int(rng.integers(36, 44))
    row = yx[0].astype(np.int64) // height
    along = yx[1].astype(np.int64) + (row % 2) * (width // 2)
    tone = rng.uniform(-0.16, 0.16, (TILE // height + 2, TILE // width + 3))[row, along // width]
    mortar = (yx[0] % height < 3) | (along % width < 3)
    bricks = _tint((142, 74, 58), tone + 0.05 * smooth_noise(rng, (2, 2)))
    return _mix(bricks, (198, 190, 178), mortar.astype(np.float32))


def _snow(rng: np.random.Generator, yx: np.ndarray) -> np.ndarray:
    drifts = _tint((226, 234, 246), 0.045 * smooth_noise(rng, (34, 60)))
    specks = smooth_noise(rng, (3, 3))
    return _mix(drifts, (176, 192, 222), 0.55 * np.clip(specks - 1.3, 0, 1))


def _wood(rng: np.random.Generator, yx: np.ndarray) -> np.ndarray:
    width = int(rng.integers(34, 44))
    plank = yx[1].astype(np.int64) // width
    tone = rng.uniform(-0.13, 0.13, TILE // width + 2)[plank]
    grain = smooth_noise(rng, (70, 2.5)) + 0.5 * smooth_noise(rng, (120, 8))
    planks = _tint((158, 116, 74), tone + 0.1 * grain)
    return _mix(planks, (62, 42, 26), (yx[1] % width < 2).astype(np.float32))


def _gravel(rng: np.random.Generator, yx: np.ndarray) -> np.ndarray:
    # Voronoi cells of a jittered grid: the nearest stone is among the 3 x 3 grid cells around.
    pitch = float(rng.uniform(11, 14))
    count = int(TILE / pitch) + 4
    jitter = rng.uniform(0.1, 0.9, (2, count, count))
    tone = rng.uniform(-0.3, 0.3, (count, count))
    cell = (yx / pitch).astype(np.int64) + 1
    nearest = np.full((TILE, TILE), np.inf)
    second = nearest.copy()
    tones = np.zeros((TILE, TILE))
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            row, col = cell[0] + down, cell[1] + right
            centre = (np.stack([row, col]) - 1 + jitter[:, row, col]) * pitch
            distance = np.hypot(*(yx - centre))
            tones = np.where(distance < nearest, tone[row, col], tones)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    stones = _tint((134, 132, 134), tones - 0.02 * nearest)
    return _mix(stones, (52, 50, 52), (second - nearest < 2.0).astype(np.float32) * 0.85)


def _sky(rng: np.random.Generator, yx: np.ndarray) -> np.ndarray:
    clouds = smooth_noise(rng, (38, 76)) + 0.45 * smooth_noise(rng, (14, 28))
    air = _tint((116, 178, 236), 0.03 * smooth_noise(rng, (90, 200)))
    return _mix(air, (246, 248, 252), 0.75 * (clouds - 0.25))


_MAKERS: dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]] = {
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "brick": _brick,
    "snow": _snow,
    "wood": _wood,
    "gravel": _gravel,
    "sky": _sky,
}
STUFF = tuple(_MAKERS)


def make_texture(stuff: str, rng: np.random.Generator) -> UInt8[np.ndarray, "t t 3"]:
    """Makes the tile of one kind of stuff, with the world's own tint and grain."""
    yx = np.mgrid[:TILE, :TILE].astype(np.float64)
    tint = rng.uniform(0.93, 1.07) * rng.uniform(0.96, 1.04, 3)
    return np.clip(_MAKERS[stuff](rng, yx) * tint, 0, 255).astype(np.uint8)
