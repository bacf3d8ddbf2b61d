"""A trial in the form of other programs (torch alone, nnU-Net, MONAI, ...), each with a test that it carries along."""
