"""Imports OpenVINO without its telemetry: by default, importing it sends a report over the network.

from smolcli.backends.vision.openvino_import import ov
"""

from __future__ import annotations

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # without this library nothing is sent

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402
from openvino.op import Constant  # noqa: E402

__all__ = ["Constant", "op", "ov"]
