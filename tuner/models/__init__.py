"""Networks: the survey's, and MONAI's."""
