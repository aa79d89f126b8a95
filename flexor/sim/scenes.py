"""What stands on the table: scenes and their items, and the MJCF built from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flexor.sim import panda

ItemKind = Literal["block", "puck", "plate", "mat", "box"]

BLOCK_HALF = 0.02  # m
BLOCK_DENSITY = 940.0  # kg/m3: 60 g for a block of 4 cm
PUCK_RADIUS, PUCK_HEIGHT, PUCK_MASS = 0.042, 0.032, 0.10  # m, m, kg; wider than the open gripper
PLATE_RADIUS, PLATE_HEIGHT = 0.065, 0.012  # m
MAT_RADIUS, MAT_HEIGHT = 0.065, 0.001  # m; a mat is drawn only, nothing bumps into it
BOX_HALF, BOX_WALL, BOX_HEIGHT = 0.065, 0.005, 0.045  # m: half the inner width, wall thickness, wall height
FLOOR_HEIGHT = 0.004  # m, of a box's bottom
PHYSICS_STEP = 0.002  # s
MOVABLE = {"block": True, "puck": True, "plate": False, "mat": False, "box": False}

TABLE_GEOM, LAMP = "table", "lamp"
AGENT_CAMERA = "agentview"
CAMERAS = (AGENT_CAMERA, panda.WRIST_CAMERA)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing on the table. Movable items carry a free joint; the others are placed once an episode."""

    name: str
    kind: ItemKind
    rgb: tuple[float, float, float]
    half: float = BLOCK_HALF  # m, half the edge of a block

    @property
    def movable(self) -> bool:
        """Whether the robot can carry or push it."""
        return MOVABLE[self.kind]

    @property
    def footprint(self) -> float:
        """Radius (m) of the circle that it fills on the table."""
        return {
            "block": 1.5 * self.half,
            "puck": PUCK_RADIUS,
            "plate": PLATE_RADIUS,
            "mat": MAT_RADIUS,
            "box": 0.095,
        }[self.kind]

    @property
    def foot(self) -> float:
        """Height (m) of its body's origin above the table: the middle of what moves, the foot of what does not."""
        return {"block": self.half, "puck": PUCK_HEIGHT / 2, "plate": 0.0, "mat": 0.0, "box": 0.0}[self.kind]


@dataclass(frozen=True, slots=True)
class Scene:
    """A table with its items; every task of a scene is possible with all of its items present.

    Attributes:
        lanes: (pushed item, goal): the way between the two is kept free of the scene's other movable items.
    """

    name: str
    items: tuple[Item, ...]
    lanes: tuple[tuple[str, str], ...] = ()


SCENES = {
    scene.name: scene
    for scene in (
        Scene(
            "blocks",
            (
                Item("red_block", "block", (0.85, 0.12, 0.10)),
                Item("blue_block", "block", (0.10, 0.25, 0.85)),
                Item("plate", "plate", (0.95, 0.93, 0.88)),
                Item("box", "box", (0.20, 0.55, 0.28)),
            ),
        ),
        Scene(
            "towers",
            (
                Item("green_block", "block", (0.15, 0.65, 0.20), half=0.024),
                Item("yellow_block", "block", (0.95, 0.80, 0.10), half=0.024),
                Item("purple_block", "block", (0.50, 0.15, 0.65), half=0.024),
            ),
        ),
        Scene(
            "mats",
            (
                Item("teal_puck", "puck", (0.05, 0.60, 0.65)),
                Item("orange_block", "block", (0.95, 0.45, 0.05)),
                Item("white_mat", "mat", (0.93, 0.93, 0.93)),
                Item("black_mat", "mat", (0.08, 0.08, 0.09)),
            ),
            lanes=(("teal_puck", "white_mat"), ("teal_puck", "black_mat")),
        ),
    )
}

WORLD_COLLIDES = 'contype="1" conaffinity="3"'
SURFACE = 'condim="4" solref="0.01 1" solimp="0.95 0.99 0.001"'
CONTACT = f'friction="1 0.02 0.001" {SURFACE}'
SLIPPERY = f'friction="0.3 0.005 0.001" priority="1" {SURFACE}'  # the puck's own friction, whatever it touches


def _shapes(item: Item) -> str:
    """The geoms of an item, around the middle of its foot (what moves: around its centre)."""
    rgba = f'rgba="{item.rgb[0]} {item.rgb[1]} {item.rgb[2]} 1"'
    common = f"{rgba} {WORLD_COLLIDES} {CONTACT}"
    if item.kind == "block":
        half = f"{item.half} {item.half} {item.half}"
        return f'<geom name="{item.name}" type="box" size="{half}" density="{BLOCK_DENSITY}" {common}/>'
    if item.kind == "puck":
        size = f'size="{PUCK_RADIUS} {PUCK_HEIGHT / 2}" mass="{PUCK_MASS}"'
        return f'<geom name="{item.name}" type="cylinder" {size} {rgba} {WORLD_COLLIDES} {SLIPPERY}/>'
    if item.kind == "mat":
        size = f'size="{MAT_RADIUS} {MAT_HEIGHT / 2}" pos="0 0 {MAT_HEIGHT / 2}"'
        return f'<geom name="{item.name}" type="cylinder" {size} {rgba} contype="0" conaffinity="0"/>'
    if item.kind == "plate":
        half = PLATE_HEIGHT / 2
        return f'<geom name="{item.name}" type="cylinder" size="{PLATE_RADIUS} {half}" pos="0 0 {half}" {common}/>'
    reach, wall, height = BOX_HALF + BOX_WALL / 2, BOX_WALL / 2, BOX_HEIGHT / 2
    long = BOX_HALF + BOX_WALL
    walls = "".join(
        f'<geom name="{item.name}_wall{i}" type="box" size="{sx} {sy} {height}" pos="{x} {y} {height}" {common}/>'
        for i, (x, y, sx, sy) in enumerate(
            ((reach, 0, wall, long), (-reach, 0, wall, long), (0, reach, long, wall), (0, -reach, long, wall))
        )
    )
    floor = f'size="{long} {long} {FLOOR_HEIGHT / 2}" pos="0 0 {FLOOR_HEIGHT / 2}"'
    return f'<geom name="{item.name}" type="box" {floor} {common}/>{walls}'


def _body(item: Item, slot: int) -> str:
    joint = f'<freejoint name="{item.name}_joint"/>' if item.movable else ""
    return f'<body name="{item.name}" pos="0.5 {0.2 * slot - 0.3} {item.foot}">{joint}{_shapes(item)}</body>'


def scene_xml(scene: Scene, others: str = "") -> str:
    """The whole world as MJCF: table top at z = 0, robot base at the origin, items in front of it along +x.

    `others` are further bodies, as MJCF. Few slices a curved shape and no shadows: with a software renderer a frame
    costs its vertices.
    """
    items = "".join(_body(item, slot) for slot, item in enumerate(scene.items))
    return f"""
<mujoco model="flexor-{scene.name}">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{PHYSICS_STEP}" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <global offwidth="640" offheight="640"/>
    <quality shadowsize="0" offsamples="4" numslices="16" numstacks="8" numquads="1"/>
    <headlight ambient="0.35 0.35 0.35" diffuse="0.25 0.25 0.25" specular="0 0 0"/>
    <map znear="0.02" zfar="20"/>
  </visual>
  <worldbody>
    <light name="{LAMP}" directional="true" pos="0.4 0.3 1.5" dir="0.1 -0.25 -1" diffuse="0.5 0.5 0.5"
           castshadow="false"/>
    <camera name="{AGENT_CAMERA}" pos="1.10 0 0.52" xyaxes="0 1 0 -0.569 0 0.822" fovy="42"/>
    <geom name="floor" type="plane" size="4 4 0.1" pos="0 0 -0.7" rgba="0.42 0.40 0.38 1" {WORLD_COLLIDES}/>
    <geom name="{TABLE_GEOM}" type="box" size="0.45 0.55 0.35" pos="0.45 0 -0.35" rgba="0.62 0.50 0.38 1"
          {WORLD_COLLIDES} {CONTACT}/>
    {panda.body_xml()}
    {items}{others}
  </worldbody>
  <actuator>{panda.actuator_xml()}</actuator>
</mujoco>"""
