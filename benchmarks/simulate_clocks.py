"""How sure clocks are related after so many answers, and how often what is said is true, where the truth is known.

    python -m benchmarks.simulate_clocks [--sets 500]

Servers as worlds/dated.py has them, round trips of 1 to 200 ms of any asymmetry, clocks that drift by up to 200 ppm.
Beside questions at random instants stand those that the relation chose the instant of, within a second.
"""

from __future__ import annotations

import argparse
from random import Random

from nestobs.observation.offset import DRIFT
from worlds.dated import KINDS, Met, Server, compared

AFTER = (5, 10, 20)
WAYS_S = (0.02, 0.08, 0.2)


def course(kind: str, seed: int, most_s: float, *, aimed: bool) -> Met:
    """One clock compared by twenty answers."""
    draw = Random(seed)
    offset_s, drift = draw.uniform(-120, 120), draw.uniform(-0.4, 0.4) * DRIFT
    server = Server(lambda at_s: offset_s + drift * at_s, kind, draw)
    return compared(server, draw, max(AFTER), aimed=aimed, most_s=most_s)


def main() -> int:
    """Print the table; 1 where anything said was not true."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=500)
    sets, false, said = parser.parse_args().sets, 0, 0
    print("error, s, as median / 95 % after", ", ".join(map(str, AFTER)), "answers")
    for most_s in WAYS_S:
        for kind in KINDS:
            for aimed in (False, True):
                met = [course(kind, seed, most_s, aimed=aimed) for seed in range(sets)]
                false, said = false + sum(one.false for one in met), said + sets * max(AFTER)
                cells = []
                for after in AFTER:
                    errors = sorted(one.errors_s[after - 1] for one in met)
                    cells.append(f"{errors[sets // 2]:.3f} / {errors[int(sets * 0.95)]:.3f}")
                how = "chosen" if aimed else "random"
                print(f"round trip 1 to {1000 * most_s:3.0f} ms  {kind:<7} {how}  {'   '.join(cells)}")
    print(f"not true: {false} of {said:,} intervals")
    return int(false > 0)


if __name__ == "__main__":
    raise SystemExit(main())
