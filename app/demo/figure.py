"""Draw one person in one pose: a small 2.5-dimensional body made of polygons, seen from any side.

Coordinates are in body heights: x to the right from the body's middle, y down from the top of the head (0) to the
soles (1). A `Brush` paints colour and coverage together, so that the figure can be laid over any scene.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from app.demo.people import Colour, Person, Pose

Point = tuple[float, float]
SHOULDER_Y, HIP_Y, KNEE_Y, SOLE_Y = 0.17, 0.5, 0.74, 0.985


class Brush:
    """Paints body coordinates on a colour picture and on its coverage mask alike."""

    def __init__(self, size: tuple[int, int], middle: float, top: float, body: float) -> None:
        self.colour = Image.new("RGB", size)
        self.cover = Image.new("L", size)
        self._draws = (ImageDraw.Draw(self.colour), ImageDraw.Draw(self.cover))
        self._middle, self._top, self._body = middle, top, body

    def at(self, point: Point) -> Point:
        """A point of the body in pixels."""
        return self._middle + point[0] * self._body, self._top + point[1] * self._body

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        pixels = [self.at(point) for point in points]
        self._draws[0].polygon(pixels, fill=fill)
        self._draws[1].polygon(pixels, fill=255)

    def ellipse(self, centre: Point, across: float, down: float, fill: Colour) -> None:
        box = [self.at((centre[0] - across, centre[1] - down)), self.at((centre[0] + across, centre[1] + down))]
        self._draws[0].ellipse(box, fill=fill)
        self._draws[1].ellipse(box, fill=255)

    def limb(self, points: Sequence[Point], widths: Sequence[float], fill: Colour) -> None:
        """A bent tube through the points, as wide at each as told, with round joints."""
        for (one, wide), (two, narrow) in zip(
            zip(points, widths, strict=True), list(zip(points, widths, strict=True))[1:], strict=False
        ):
            long = math.hypot(two[0] - one[0], two[1] - one[1]) or 1.0
            nx, ny = -(two[1] - one[1]) / long, (two[0] - one[0]) / long
            self.polygon(
                [
                    (one[0] + nx * wide, one[1] + ny * wide),
                    (two[0] + nx * narrow, two[1] + ny * narrow),
                    (two[0] - nx * narrow, two[1] - ny * narrow),
                    (one[0] - nx * wide, one[1] - ny * wide),
                ],
                fill,
            )
            self.ellipse(two, narrow, narrow, fill)

    def texture(self, points: Sequence[Point], pixels: np.ndarray, box: tuple[Point, Point]) -> None:
        """Lay a small picture, stretched over the box, into a polygon."""
        (left, top), (right, bottom) = self.at(box[0]), self.at(box[1])
        size = (max(1, round(right - left)), max(1, round(bottom - top)))
        mask = Image.new("L", self.colour.size)
        ImageDraw.Draw(mask).polygon([self.at(point) for point in points], fill=255)
        cloth = Image.new("RGB", self.colour.size)
        cloth.paste(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST), (round(left), round(top)))
        self.colour.paste(cloth, (0, 0), mask)
        self.cover.paste(255, (0, 0, *self.cover.size), mask)


def draw_figure(brush: Brush, person: Person, pose: Pose) -> None:
    """Draw the person from the far side to the near side."""
    front, side = math.cos(pose.yaw), math.sin(pose.yaw)
    if person.bag == "backpack" and front > -0.3:
        _backpack(brush, person, front, side)
    for near in (False, True):
        _leg(brush, person, pose, near)
    _arm(brush, person, pose, near=False)
    _torso(brush, person, front, side)
    if person.bag == "backpack" and front <= -0.3:
        _backpack(brush, person, front, side)
    if person.bag == "shoulder":
        _shoulder_bag(brush, person, front, side)
    _arm(brush, person, pose, near=True)
    _head(brush, person, front, side)


def torso_cloth(person: Person, front: float, side: float) -> np.ndarray:
    """The top's pattern as uint8 [48, 32, 3], turned with the body."""
    down, across = np.mgrid[0:1:48j, -1:1:32j]
    across = np.clip(across * 0.9 + side * 0.5, -1.4, 1.4)
    count = person.pattern_count
    second = {
        "plain": np.zeros_like(down, dtype=bool),
        "rows": np.sin(2 * np.pi * down * count) > 0.1,
        "columns": np.sin(np.pi * across * count) > 0.1,
        "check": (np.sin(2 * np.pi * down * count) > 0) ^ (np.sin(np.pi * across * count) > 0),
        "block": down > 0.52,
        "dots": ((down * count * 1.3) % 1 - 0.5) ** 2 + ((across * count * 0.8) % 1 - 0.5) ** 2 < 0.07,
    }[person.pattern]
    cloth = np.where(second[..., None], np.array(person.second_colour), np.array(person.top_colour))
    if person.top in ("jacket", "coat") and front > 0.1:
        cloth[np.abs(across) < 0.2] = person.inner_colour
    if person.logo and front > 0.1:
        x, y, radius = person.logo
        cloth[((across - x) * 0.5) ** 2 + ((down - y) * 1.2) ** 2 < (radius * 5) ** 2] = person.logo_colour
    return cloth.astype(np.uint8)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour darkened (below 1) or lightened."""
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return red, green, blue


def _torso(brush: Brush, person: Person, front: float, side: float) -> None:
    shoulder = 0.125 * person.breadth * (0.62 + 0.38 * abs(front))
    hip = 0.1 * person.breadth * (0.68 + 0.32 * abs(front))
    bottom = {"tee": HIP_Y + 0.01, "long": HIP_Y + 0.02, "jacket": HIP_Y + 0.04, "coat": HIP_Y + 0.2}[person.top]
    flare = hip * (1.25 if person.top == "coat" else 1.0)
    outline = [(-shoulder, SHOULDER_Y), (-0.03, SHOULDER_Y - 0.035), (0.03, SHOULDER_Y - 0.035), (shoulder, SHOULDER_Y)]
    outline += [(hip, HIP_Y - 0.06), (flare, bottom), (-flare, bottom), (-hip, HIP_Y - 0.06)]
    wide = max(shoulder, flare)
    brush.texture(outline, torso_cloth(person, front, side), ((-wide, SHOULDER_Y - 0.035), (wide, bottom)))
    if person.legs == "skirt" and person.top != "coat":
        hem = hip * 1.35
        brush.polygon(
            [(-hip, bottom - 0.01), (hip, bottom - 0.01), (hem, KNEE_Y - 0.02), (-hem, KNEE_Y - 0.02)],
            person.legs_colour,
        )


def _leg(brush: Brush, person: Person, pose: Pose, near: bool) -> None:
    front, side = math.cos(pose.yaw), math.sin(pose.yaw)
    which = 1.0 if near else -1.0
    swing = math.sin(pose.phase) * which * 0.13 * person.stride
    bend = max(0.0, -swing) * 0.6
    hip_x = 0.048 * person.breadth * front * which
    knee = (hip_x + swing * side * 0.5, KNEE_Y)
    foot = (hip_x * 1.05 + swing * side, SOLE_Y - 0.02 - bend * 0.4 - abs(swing * front) * 0.15)
    tone = 1.0 if near else 0.84
    cloth = shade(person.legs_colour, tone)
    bare = shade(person.skin, tone)
    width = 0.046 * (0.6 + 0.4 * person.breadth)
    brush.limb([(hip_x, HIP_Y - 0.02), knee], [width * 1.15, width * 0.85], cloth if person.legs != "skirt" else bare)
    brush.limb([knee, foot], [width * 0.8, width * 0.6], cloth if person.legs == "trousers" else bare)
    toe = 0.035 * side * (1 if front > -2 else 0)
    brush.ellipse((foot[0] + toe, foot[1] + 0.012), 0.036 + 0.016 * abs(side), 0.019, shade(person.shoes, tone))


def _arm(brush: Brush, person: Person, pose: Pose, near: bool) -> None:
    front, side = math.cos(pose.yaw), math.sin(pose.yaw)
    which = 1.0 if near else -1.0
    swing = -math.sin(pose.phase) * which * 0.1 * person.stride
    shoulder_x = (0.118 * person.breadth) * (abs(front) * which + 0.12 * side * which)
    shoulder = (shoulder_x, SHOULDER_Y + 0.025)
    elbow = (shoulder_x * 1.12 + swing * side * 0.6, 0.345)
    hand = (shoulder_x * 1.1 + swing * side * 1.4, 0.49 - abs(swing) * 0.25)
    tone = 0.93 if near else 0.82
    sleeve = shade(person.top_colour, tone)
    width = 0.032 * (0.6 + 0.4 * person.breadth) * (0.9 if person.top == "tee" else 1.1)
    brush.limb([shoulder, elbow], [width * 1.1, width], sleeve)
    brush.limb([elbow, hand], [width * 0.95, width * 0.75], shade(person.skin, tone) if person.top == "tee" else sleeve)
    brush.ellipse((hand[0], hand[1] + 0.012), 0.02, 0.026, shade(person.skin, tone))
    carries = person.bag == "hand" and (which * front * person.bag_side > 0 or (abs(front) < 0.3 and near))
    if carries:
        x, y = hand[0], hand[1] + 0.03
        brush.polygon([(x - 0.055, y), (x + 0.055, y), (x + 0.065, y + 0.12), (x - 0.065, y + 0.12)], person.bag_colour)


def _head(brush: Brush, person: Person, front: float, side: float) -> None:
    brush.polygon([(-0.03, 0.11), (0.03, 0.11), (0.035, 0.16), (-0.035, 0.16)], shade(person.skin, 0.85))
    style = person.hair_style
    if style == "long":
        wide = 0.07 if front < 0.5 else 0.078
        brush.polygon([(-wide, 0.06), (wide, 0.06), (wide * 0.9, 0.21), (-wide * 0.9, 0.21)], person.hair)
    if style == "hood":
        brush.ellipse((-0.012 * side, 0.078), 0.078, 0.09, person.top_colour)
    brush.ellipse((0.0, 0.075), 0.056, 0.073, person.skin)
    covered = {"hood": person.top_colour, "bald": person.skin, "cap": person.hair}.get(style, person.hair)
    if front < -0.2:  # the back of the head: hair down to the neck
        brush.ellipse((0.0, 0.07), 0.059, 0.072, covered)
    elif style != "bald":
        brush.ellipse((-0.03 * side, 0.035), 0.052, 0.036, covered)
        brush.ellipse((-0.045 * side, 0.07), 0.032 if abs(side) > 0.4 else 0.0, 0.05, covered)
    if style == "bun":
        brush.ellipse((-0.055 * side, 0.005), 0.026, 0.026, person.hair)
    if style == "cap":
        brush.ellipse((0.0, 0.03), 0.06, 0.034, person.cap)
        if front > -0.2:
            brush.ellipse((0.05 * side, 0.05), 0.05, 0.011, shade(person.cap, 0.8))
    if style == "long" and front < 0.2:
        brush.polygon([(-0.058, 0.06), (0.058, 0.06), (0.064, 0.22), (-0.064, 0.22)], person.hair)


def _backpack(brush: Brush, person: Person, front: float, side: float) -> None:
    wide = 0.045 + 0.055 * abs(front)
    middle = -side * 0.105 * person.breadth
    points = [(middle - wide, 0.19), (middle + wide, 0.19), (middle + wide * 1.1, 0.42), (middle - wide * 1.1, 0.42)]
    brush.polygon(points, person.bag_colour)
    brush.ellipse((middle, 0.19), wide, 0.022, person.bag_colour)
    brush.polygon(
        [
            (middle - wide * 0.6, 0.33),
            (middle + wide * 0.6, 0.33),
            (middle + wide * 0.6, 0.4),
            (middle - wide * 0.6, 0.4),
        ],
        shade(person.bag_colour, 0.72),
    )


def _shoulder_bag(brush: Brush, person: Person, front: float, side: float) -> None:
    hang = person.bag_side * front * 0.11 * person.breadth
    start = -hang * 0.7
    brush.limb([(start, SHOULDER_Y - 0.01), (hang, 0.45)], [0.009, 0.009], shade(person.bag_colour, 0.7))
    if person.bag_side * side > -0.75:  # else the body hides it
        brush.polygon(
            [(hang - 0.06, 0.43), (hang + 0.06, 0.43), (hang + 0.055, 0.54), (hang - 0.055, 0.54)], person.bag_colour
        )
