"""Behaviour suites to subclass for code of one's own: `storage.StorageSuite`, `sampler.SamplerSuite`, `loss.LossSuite`.

They need pytest (extra `testing`). The storages, samplers and losses of this package are tested with them.
"""
