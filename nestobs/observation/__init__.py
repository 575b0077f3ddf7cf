"""What is written down: the row, the nest it speaks of, windows of time, columns of many rows. Pure."""

from nestobs.observation.schema import COLUMNS as COLUMNS
from nestobs.observation.schema import Observation as Observation
