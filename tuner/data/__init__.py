"""Data sets: what there is (`catalogue`), prepared once and shared (`prepared`), checked, described, augmented."""
