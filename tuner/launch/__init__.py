"""Starting workers: who may start them, on which devices, and what a study needs before the first one starts."""
