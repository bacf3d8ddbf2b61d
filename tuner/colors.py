"""Colours that colour-blind people tell apart, the same ones in every picture."""

Colour = tuple[int, int, int]

CLASS_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
    (255, 255, 255), (136, 34, 85), (153, 153, 51), (136, 204, 238), (17, 119, 51), (204, 102, 119), (51, 34, 136),
    (68, 170, 153), (221, 204, 119), (170, 68, 153), (102, 153, 204), (153, 119, 0),
)  # fmt: skip
"""Okabe and Ito's colours, then Tol's muted ones; class 1 has the first."""
MISSED: Colour = (86, 180, 233)
EXTRA: Colour = (230, 159, 0)
CONFUSED: Colour = (204, 121, 167)
IGNORED: Colour = (90, 90, 90)
