"""Who is drawn: identities, cameras and poses, each a plain fact drawn from a random generator.

Same seed, same facts. Two dials set how hard re-identification is: `hard` is the share of dull clothes (0..1),
`shift` the strength of what a camera does to a picture (0: nothing, 0.6: a fair demo, 1.0 and above: hard).
"""

import colorsys
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

T = TypeVar("T")
Colour = tuple[int, int, int]
HairStyle = Literal["short", "long", "bun", "bald", "cap", "hood"]
Top = Literal["tee", "long", "jacket", "coat"]
Pattern = Literal["plain", "rows", "columns", "check", "block", "dots"]
Legs = Literal["trousers", "shorts", "skirt"]
Bag = Literal["none", "backpack", "shoulder", "hand"]

SKIN: tuple[Colour, ...] = (
    (244, 214, 190),
    (229, 190, 158),
    (206, 158, 122),
    (166, 116, 82),
    (122, 82, 58),
    (84, 56, 42),
)
HAIR: tuple[Colour, ...] = (
    (28, 24, 22),
    (62, 42, 30),
    (104, 70, 42),
    (160, 112, 62),
    (204, 170, 108),
    (150, 66, 36),
    (158, 156, 152),
)
# What most people wear outdoors: black, greys, navy, browns, olive, beige, off-white.
DULL: tuple[Colour, ...] = (
    (30, 30, 34), (58, 58, 62), (96, 96, 100), (140, 140, 142), (34, 40, 66), (52, 62, 88),
    (74, 54, 42), (106, 84, 64), (70, 76, 56), (176, 160, 132), (212, 208, 198), (44, 30, 34),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """What an identity keeps from picture to picture. Sizes are factors of an average body."""

    skin: Colour
    hair: Colour
    hair_style: HairStyle
    cap: Colour
    height: float
    breadth: float
    top: Top
    top_colour: Colour
    second_colour: Colour
    inner_colour: Colour
    pattern: Pattern
    pattern_count: float
    legs: Legs
    legs_colour: Colour
    shoes: Colour
    bag: Bag
    bag_colour: Colour
    bag_side: int
    logo: tuple[float, float, float] | None  # across (-1..1), down (0..1), radius, on the chest
    logo_colour: Colour
    stride: float


@dataclass(frozen=True, slots=True)
class Camera:
    """What a camera does to everyone it sees."""

    seed: int
    wall: Colour
    floor: Colour
    horizon: float
    gains: tuple[float, float, float]
    brightness: float
    gamma: float
    blur: float
    noise: float
    jpeg_quality: int
    pixel_height: int
    yaw: float
    occlusion: float


@dataclass(frozen=True, slots=True)
class Pose:
    """What changes from one picture of a person to the next. Yaw 0 faces the camera, in radians."""

    yaw: float
    phase: float
    place: float
    light: float
    shift_x: float
    shift_y: float
    zoom: float


def draw_person(rng: np.random.Generator, hard: float) -> Person:
    """Draw one identity; `hard` is the probability that a garment is dull."""
    logo = (rng.uniform(-0.5, 0.5), rng.uniform(0.12, 0.4), rng.uniform(0.014, 0.03)) if rng.random() < 0.4 else None
    return Person(
        skin=_one(rng, SKIN),
        hair=_one(rng, HAIR),
        hair_style=_one(rng, ("short", "short", "long", "long", "bun", "bald", "cap", "hood")),
        cap=garment(rng, hard),
        height=rng.uniform(0.86, 1.04),
        breadth=rng.uniform(0.82, 1.3),
        top=_one(rng, ("tee", "long", "jacket", "coat")),
        top_colour=garment(rng, hard),
        second_colour=garment(rng, hard),
        inner_colour=garment(rng, hard),
        pattern=_one(rng, ("plain", "plain", "rows", "columns", "check", "block", "dots")),
        pattern_count=rng.uniform(2.0, 5.5),
        legs=_one(rng, ("trousers", "trousers", "trousers", "shorts", "skirt")),
        legs_colour=garment(rng, hard),
        shoes=garment(rng, hard),
        bag=_one(rng, ("none", "backpack", "shoulder", "hand")),
        bag_colour=garment(rng, hard),
        bag_side=int(rng.choice((-1, 1))),
        logo=logo,
        logo_colour=garment(rng, 0.0),
        stride=rng.uniform(0.6, 1.3),
    )


def draw_camera(rng: np.random.Generator, shift: float) -> Camera:
    """Draw one camera; `shift` scales everything that separates it from a neutral one."""
    wall = int(rng.integers(95, 185)) + rng.normal(0, 9, 3)
    floor = int(rng.integers(80, 165)) + rng.normal(0, 8, 3)
    gains = np.exp(rng.normal(0, 0.12 * shift, 3))
    return Camera(
        seed=int(rng.integers(2**31)),
        wall=clip_colour(wall),
        floor=clip_colour(floor),
        horizon=rng.uniform(0.25, 0.6),
        gains=(float(gains[0]), float(gains[1]), float(gains[2])),
        brightness=float(np.exp(rng.normal(0, 0.2 * shift))),
        gamma=float(np.exp(rng.normal(0, 0.2 * shift))),
        blur=float(abs(rng.normal(0, 0.8 * shift))),
        noise=float(abs(rng.normal(0, 7 * shift))),
        jpeg_quality=int(rng.integers(max(30, 92 - int(50 * shift)), 93)),
        pixel_height=int(rng.integers(max(80, 250 - int(150 * shift)), 261)),
        yaw=rng.uniform(0, 2 * np.pi),
        occlusion=rng.uniform(0, 0.3 * min(shift, 1.5)),
    )


def draw_pose(rng: np.random.Generator, camera: Camera) -> Pose:
    """Draw one pose before a camera: people mostly walk its usual way, some come back, some cross."""
    turned = camera.yaw + (np.pi if rng.random() < 0.25 else 0.0) + rng.normal(0, 0.6)
    return Pose(
        yaw=float(turned % (2 * np.pi)),
        phase=rng.uniform(0, 2 * np.pi),
        place=rng.uniform(0, 1),
        light=float(rng.normal(0, 0.22)),
        shift_x=float(rng.normal(0, 0.03)),
        shift_y=float(rng.normal(0, 0.02)),
        zoom=float(np.exp(rng.normal(0, 0.05))),
    )


def garment(rng: np.random.Generator, hard: float) -> Colour:
    """A garment's colour: dull with probability `hard`, else any hue."""
    if rng.random() < hard:
        return clip_colour(np.array(_one(rng, DULL)) + rng.normal(0, 7, 3))
    rgb = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.35, 0.95), rng.uniform(0.35, 0.95))
    return clip_colour(np.array(rgb) * 255)


def clip_colour(values: np.ndarray) -> Colour:
    """Three numbers to a colour of whole numbers in 0..255."""
    red, green, blue = np.clip(np.rint(values), 0, 255).astype(int).tolist()
    return red, green, blue


def _one(rng: np.random.Generator, choices: tuple[T, ...]) -> T:
    return choices[int(rng.integers(len(choices)))]
