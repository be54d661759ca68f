"""Outlines of the twelve things, as polygons in a unit frame (x right, y down, about -1..1).

A shape is a list of polygons painted in order. Each belongs to a named part and says how it is
coloured: `main` takes the colour that the caption names, scaled by `shade`; the other paints are
fixed and muted, so that only one colour of a thing stands out.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "p 2"]
Number = float | int
XY = tuple[Number, Number]

# Muted paints of the parts that the colour does not name: RGB.
PAINTS = {
    "bark": (104, 74, 48),
    "dark": (58, 58, 64),
    "glass": (176, 206, 214),
    "cream": (226, 214, 190),
    "leaf": (88, 116, 66),
    "slate": (112, 96, 92),
}


@dataclasses.dataclass(frozen=True)
class Polygon:
    """One painted outline of a part."""

    part: str
    points: Points
    paint: str = "main"
    shade: float = 1.0


def _points(*xy: XY) -> Points:
    return np.asarray(xy, np.float64)


def _arc(
    centre: XY,
    radii: XY,
    start_deg: Number = 0.0,
    stop_deg: Number = 360.0,
    count: int = 24,
) -> Points:
    """Points on an ellipse from one angle to another, clockwise on screen from the right."""
    angles = np.radians(np.linspace(start_deg, stop_deg, count))
    return np.stack(
        [centre[0] + radii[0] * np.cos(angles), centre[1] + radii[1] * np.sin(angles)], axis=1
    )


def _band(centreline: Points, width: float) -> Float[np.ndarray, "outline 2"]:
    """A stroke of constant width along a line."""
    direction = np.gradient(centreline, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1) * (width / 2)
    return np.concatenate([centreline + normal, (centreline - normal)[::-1]])


def _ball() -> list[Polygon]:
    seam = _band(_arc((0.55, -0.9), (1.25, 1.25), 75, 172), 0.09)
    return [Polygon("ball", _arc((0, 0), (1, 1), count=40)), Polygon("ball", seam, shade=0.72)]


def _box() -> list[Polygon]:
    return [
        Polygon("front", _points((-0.9, -0.35), (0.45, -0.35), (0.45, 0.95), (-0.9, 0.95))),
        Polygon(
            "top", _points((-0.9, -0.35), (-0.4, -0.85), (0.95, -0.85), (0.45, -0.35)), shade=1.18
        ),
        Polygon(
            "side", _points((0.45, -0.35), (0.95, -0.85), (0.95, 0.45), (0.45, 0.95)), shade=0.66
        ),
    ]


def _house() -> list[Polygon]:
    return [
        Polygon("wall", _points((-0.8, -0.2), (0.8, -0.2), (0.8, 0.95), (-0.8, 0.95))),
        Polygon("roof", _points((-1.02, -0.2), (0, -1.0), (1.02, -0.2)), "slate"),
        Polygon("door", _points((-0.08, 0.3), (0.32, 0.3), (0.32, 0.95), (-0.08, 0.95)), "bark"),
        Polygon(
            "window", _points((-0.58, 0.1), (-0.24, 0.1), (-0.24, 0.45), (-0.58, 0.45)), "glass"
        ),
        Polygon("window", _points((0.46, 0.1), (0.7, 0.1), (0.7, 0.45), (0.46, 0.45)), "glass"),
    ]


def _tree() -> list[Polygon]:
    trunk = Polygon("trunk", _points((-0.16, 0.4), (0.16, 0.4), (0.2, 1.0), (-0.2, 1.0)), "bark")
    tiers = [
        _points((-0.86, 0.55), (0, -0.35), (0.86, 0.55)),
        _points((-0.68, 0.08), (0, -0.72), (0.68, 0.08)),
        _points((-0.48, -0.36), (0, -1.1), (0.48, -0.36)),
    ]
    shades = (0.82, 0.94, 1.06)
    return [trunk] + [
        Polygon("crown", tier, shade=shade) for tier, shade in zip(tiers, shades, strict=True)
    ]


def _car() -> list[Polygon]:
    body = _points(
        (-1.15, 0.32), (-1.12, -0.02), (-0.7, -0.1), (-0.42, -0.55), (0.4, -0.55), (0.68, -0.08),
        (1.1, 0.02), (1.15, 0.32),
    )  # fmt: skip
    wheels = [_arc((x, 0.34), (0.25, 0.25)) for x in (-0.62, 0.62)]
    hubs = [_arc((x, 0.34), (0.1, 0.1), count=12) for x in (-0.62, 0.62)]
    return [
        Polygon("body", body),
        Polygon("body", _points((-1.15, 0.2), (1.15, 0.2), (1.15, 0.32), (-1.15, 0.32)), shade=0.7),
        Polygon(
            "window", _points((-0.52, -0.1), (-0.34, -0.43), (-0.06, -0.43), (-0.06, -0.1)), "glass"
        ),
        Polygon(
            "window", _points((0.04, -0.1), (0.04, -0.43), (0.33, -0.43), (0.52, -0.1)), "glass"
        ),
        *(Polygon("wheel", wheel, "dark") for wheel in wheels),
        *(Polygon("wheel", hub, "cream") for hub in hubs),
    ]


def _boat() -> list[Polygon]:
    return [
        Polygon("mast", _points((-0.05, -1.0), (0.04, -1.0), (0.04, 0.2), (-0.05, 0.2)), "bark"),
        Polygon("sail", _points((0.08, -0.92), (0.74, 0.02), (0.08, 0.02)), "cream"),
        Polygon("hull", _points((-1.1, 0.12), (1.15, 0.12), (0.72, 0.78), (-0.72, 0.78))),
        Polygon(
            "hull", _points((-1.1, 0.12), (1.15, 0.12), (1.07, 0.25), (-1.02, 0.25)), shade=0.7
        ),
    ]


def _star() -> list[Polygon]:
    angles = np.radians(np.arange(10) * 36 - 90)
    radii = np.where(np.arange(10) % 2 == 0, 1.05, 0.46)
    outline = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)
    # Each point is folded along its middle, as a paper star is.
    folds = [
        np.stack([np.zeros(2), outline[tip], outline[(tip + 1) % 10]]) for tip in range(0, 10, 2)
    ]
    return [Polygon("star", outline)] + [Polygon("star", fold, shade=0.78) for fold in folds]


def _kite() -> list[Polygon]:
    top, right, bottom, left = (0.0, -1.1), (0.68, -0.42), (0.0, 0.55), (-0.68, -0.42)
    middle = (0.0, -0.42)
    line = np.linspace(0.5, 1.3, 9)
    tail = _band(np.stack([0.16 * np.sin((line - 0.5) * 8), line], axis=1), 0.07)
    bows = [
        _points((x - 0.2, y - 0.12), (x + 0.2, y + 0.12), (x + 0.2, y - 0.12), (x - 0.2, y + 0.12))
        for x, y in ((0.15, 0.82), (-0.14, 1.15))
    ]
    return [
        Polygon("tail", tail, "dark"),
        *(Polygon("tail", bow, "cream") for bow in bows),
        Polygon("sail", _points(top, right, bottom, left)),
        Polygon("sail", _points(top, middle, left), shade=0.76),
        Polygon("sail", _points(middle, right, bottom), shade=0.76),
    ]


def _cup() -> list[Polygon]:
    handle = np.concatenate(
        [_arc((0.5, 0.05), (0.56, 0.5), -80, 80), _arc((0.5, 0.05), (0.32, 0.28), 80, -80)]
    )
    body = np.concatenate(
        [_points((-0.75, -0.72)), _points((0.6, -0.72)), _arc((-0.075, 0.78), (0.58, 0.16), 0, 180)]
    )
    return [
        Polygon("handle", handle, shade=0.78),
        Polygon("body", body),
        Polygon("rim", _arc((-0.075, -0.72), (0.675, 0.2)), shade=1.15),
        Polygon("rim", _arc((-0.075, -0.7), (0.55, 0.13)), "dark"),
    ]


def _flower() -> list[Polygon]:
    stem = _band(
        np.stack([0.08 * np.sin(np.linspace(0, 3, 7)), np.linspace(-0.2, 1.2, 7)], 1), 0.12
    )
    leaf = _points((0.05, 0.98), (0.2, 0.66), (0.58, 0.56), (0.46, 0.86))
    petals = []
    for index in range(6):
        angle = np.radians(60 * index + 30)
        centre = (0.48 * np.cos(angle), -0.35 + 0.48 * np.sin(angle))
        petals.append(Polygon("petals", _arc(centre, (0.32, 0.32)), shade=1.0 - 0.16 * (index % 2)))
    return [
        Polygon("stem", stem, "leaf"),
        Polygon("stem", leaf, "leaf"),
        *petals,
        Polygon("centre", _arc((0, -0.35), (0.24, 0.24)), "bark"),
    ]


def _mushroom() -> list[Polygon]:
    stem = _points((-0.3, 0.05), (0.3, 0.05), (0.38, 1.0), (-0.38, 1.0))
    cap = np.concatenate(
        [_arc((0, 0.1), (1.05, 1.0), 180, 360), _arc((0, 0.1), (1.05, 0.14), 0, 180)]
    )
    spots = [
        ((-0.5, -0.3), 0.15),
        ((0.05, -0.58), 0.18),
        ((0.55, -0.25), 0.14),
        ((0.02, -0.1), 0.12),
    ]
    return [
        Polygon("stem", stem, "cream"),
        Polygon("cap", cap),
        *(Polygon("cap", _arc(centre, (r, r), count=14), "cream") for centre, r in spots),
    ]


def _umbrella() -> list[Polygon]:
    stick = _points((-0.05, -0.5), (0.05, -0.5), (0.05, 0.9), (-0.05, 0.9))
    hook = _band(_arc((0.17, 0.9), (0.17, 0.2), 0, 180, 10), 0.1)
    edges = np.linspace(1.1, -1.1, 5)
    panels = []
    for index, (right, left) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        # A panel hangs from the tip to a scalloped hem; the rim bulges as a dome does.
        outer = [_dome(right, t) for t in np.linspace(0, 1, 8)][::-1]
        inner = [_dome(left, t) for t in np.linspace(0, 1, 8)]
        scallop = _arc(((right + left) / 2, 0.12), (abs(right - left) / 2, 0.2), 0, -180, 9)
        points = np.concatenate([inner, scallop[::-1], outer])
        panels.append(Polygon("canopy", points, shade=1.0 if index % 2 else 0.78))
    return [Polygon("handle", stick, "dark"), Polygon("handle", hook, "dark"), *panels]


def _dome(hem_x: float, t: float) -> XY:
    """A rib of the umbrella from its tip (t = 0) to the hem (t = 1), bulging outwards."""
    return (hem_x * np.sin(t * np.pi / 2), 0.12 - 0.98 * np.cos(t * np.pi / 2))


SHAPES: dict[str, list[Polygon]] = {
    "ball": _ball(),
    "box": _box(),
    "house": _house(),
    "tree": _tree(),
    "car": _car(),
    "boat": _boat(),
    "star": _star(),
    "kite": _kite(),
    "cup": _cup(),
    "flower": _flower(),
    "mushroom": _mushroom(),
    "umbrella": _umbrella(),
}
# How far each may turn, in degrees to either side; things that stand do not lie on their heads.
MAX_ROTATION = {"ball": 180.0, "star": 180.0, "kite": 60.0, "flower": 40.0, "box": 30.0}
DEFAULT_ROTATION = 22.0
