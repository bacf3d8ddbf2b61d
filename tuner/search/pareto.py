"""Pareto fronts of points to be minimised, for the samplers and for the best trials of a study.

In plain Python: `tuner status` asks for the best trials and must not wait for NumPy.
"""

from collections.abc import Sequence

Point = tuple[float, ...]


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Return the places of the points that no other one beats: nowhere worse, and somewhere better.

    Args:
        points: To be minimised, all of so many objectives. Of equal ones none beats the other.

    Returns:
        Places in the order of the points' values, equal ones in their own order.
    """
    front: list[int] = []
    before: Point | None = None
    beaten = False
    for place in sorted(range(len(points)), key=lambda index: points[index]):
        point = points[place]
        if point != before:
            # What could beat a point comes before it; of two objectives the last one kept is the best in the second.
            rivals = front if len(point) > 2 else front[-1:]
            beaten = any(all(a <= b for a, b in zip(points[j], point, strict=True)) for j in rivals)
            before = point
        if not beaten:
            front.append(place)
    return front


def whole_fronts(points: Sequence[Point], count: int) -> tuple[list[int], list[int]]:
    """Return as many fronts, the best first, as hold at most `count` points together, and the front that comes next.

    0 <= count < the number of points. The places of both are in order.
    """
    inside: list[int] = []
    left = list(range(len(points)))
    while True:
        front = sorted(left[i] for i in pareto_front([points[place] for place in left]))
        if len(inside) + len(front) > count:
            return sorted(inside), front
        inside += front
        gone = set(front)
        left = [place for place in left if place not in gone]
