"""The Franka Panda as MJCF: the robot's published kinematics, drawn and collided with primitive shapes.

Source of the numbers: Franka's published Denavit-Hartenberg parameters (Craig's convention), joint position limits,
joint torque limits and hand geometry (Franka Control Interface documentation, "Robot and interface specifications").
Link masses are the commonly used identified ones; inertias follow from the shapes. One primitive a link keeps a
software-rendered frame at a few milliseconds, since there the cost is vertices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("finger_joint1", "finger_joint2")
FINGER_GEOMS = ("finger1_pad", "finger2_pad")
GRIP_SITE = "grip_site"
HAND_BODY = "hand"
WRIST_CAMERA = "robot0_eye_in_hand"

JOINT_LIMITS = np.array(
    [
        (-2.8973, 2.8973),
        (-1.7628, 1.7628),
        (-2.8973, 2.8973),
        (-3.0718, -0.0698),
        (-2.8973, 2.8973),
        (-0.0175, 3.7525),
        (-2.8973, 2.8973),
    ]
)  # rad
TORQUE_LIMITS = np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0])  # Nm
REST_POSE = np.array(
    [0.0, -0.1289, 0.0, -2.5263, 0.0, 2.3974, 0.7854]
)  # rad; gripper at (0.45, 0, 0.22) m, looking down
FINGER_OPEN = 0.04  # m each finger, from the middle

ARM_COLLIDES = 'contype="2" conaffinity="1"'  # with the world (contype 1, conaffinity 3), not with itself


@dataclass(frozen=True, slots=True)
class Link:
    """One moving link: where its frame lies in the previous one, and the shapes that stand for it."""

    pos: str  # m, in the parent's frame
    quat: str  # w x y z
    mass: float  # kg
    shapes: tuple[str, ...]  # the first one carries the mass


MINUS_X, PLUS_X = "1 -1 0 0", "1 1 0 0"  # quarter turns about x: the Denavit-Hartenberg twists
WHITE, DARK = 'rgba="0.93 0.93 0.93 1"', 'rgba="0.25 0.25 0.27 1"'

LINKS = (
    Link("0 0 0.333", "1 0 0 0", 4.97, (f'type="capsule" fromto="0 0 -0.19 0 0 -0.03" size="0.062" {WHITE}',)),
    Link("0 0 0", MINUS_X, 0.65, (f'type="capsule" fromto="0 0 -0.06 0 0 0.06" size="0.060" {WHITE}',)),
    Link("0 -0.316 0", PLUS_X, 3.23, (f'type="capsule" fromto="0 0 -0.22 0 0 -0.05" size="0.058" {WHITE}',)),
    Link("0.0825 0 0", PLUS_X, 3.59, (f'type="capsule" fromto="-0.04 0 0 0 0 0.02" size="0.058" {WHITE}',)),
    Link(
        "-0.0825 0.384 0", MINUS_X, 1.23, (f'type="capsule" fromto="0.02 0.03 -0.30 0 0.03 -0.06" size="0.05" {WHITE}',)
    ),
    Link("0 0 0", PLUS_X, 1.67, (f'type="capsule" fromto="0 0 -0.03 0.06 0 0.01" size="0.048" {WHITE}',)),
    Link("0.088 0 0", PLUS_X, 0.74, (f'type="cylinder" fromto="0 0 0.01 0 0 0.107" size="0.042" {DARK}',)),
)


def _finger(index: int) -> str:
    side = 1 if index == 1 else -1
    span = f"0 {FINGER_OPEN}" if index == 1 else f"{-FINGER_OPEN} 0"
    return f"""
      <body name="finger{index}" pos="0 0 0.0584">
        <joint name="finger_joint{index}" type="slide" axis="0 1 0" range="{span}" damping="20" armature="0.1"/>
        <geom name="finger{index}_pad" type="box" size="0.010 0.006 0.027" pos="0 {side * 0.006} 0.027" mass="0.03"
              friction="1.5 0.05 0.001" condim="4" {DARK} {ARM_COLLIDES}/>
      </body>"""


def body_xml() -> str:
    """The robot's body tree, its base at the origin of the world and its front along +x."""
    hand = f"""
    <body name="{HAND_BODY}" pos="0 0 0.107" quat="0.9238795 0 0 -0.3826834">
      <geom name="hand_shell" type="box" size="0.020 0.100 0.029" pos="0 0 0.029" mass="0.73" {WHITE} {ARM_COLLIDES}/>
      <site name="{GRIP_SITE}" pos="0 0 0.1034" size="0.005" rgba="0 0 0 0"/>
      <camera name="{WRIST_CAMERA}" pos="0.065 0 0.0" quat="0 0.7071068 0.7071068 0" fovy="75"/>
      {_finger(1)}{_finger(2)}
    </body>"""
    inner = hand
    for number in range(len(LINKS), 0, -1):
        link = LINKS[number - 1]
        low, high = JOINT_LIMITS[number - 1]
        shapes = "".join(
            f'<geom name="link{number}_{i}" mass="{link.mass if i == 0 else 0}" {shape} {ARM_COLLIDES}/>'
            for i, shape in enumerate(link.shapes)
        )
        inner = f"""
    <body name="link{number}" pos="{link.pos}" quat="{link.quat}">
      <joint name="joint{number}" axis="0 0 1" range="{low} {high}" damping="1" armature="0.1"/>
      {shapes}{inner}
    </body>"""
    return f"""
    <body name="link0">
      <geom name="link0_0" type="cylinder" fromto="0 0 0 0 0 0.14" size="0.08" mass="2.8" {WHITE} {ARM_COLLIDES}/>
      {inner}
    </body>"""


def actuator_xml() -> str:
    """Torque motors for the arm; position servos for the fingers, limited to a grip of 20 N each."""
    motors = "".join(
        f'<motor name="motor{i}" joint="joint{i}" ctrlrange="{-t} {t}"/>' for i, t in enumerate(TORQUE_LIMITS, start=1)
    )
    servos = "".join(
        f'<position name="servo{i}" joint="finger_joint{i}" kp="1000" forcerange="-20 20" ctrlrange="{low} {high}"/>'
        for i, (low, high) in enumerate(((0, FINGER_OPEN), (-FINGER_OPEN, 0)), start=1)
    )
    return motors + servos
