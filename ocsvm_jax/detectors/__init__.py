"""Anomaly detectors in three lines: the methods of the paper with scikit-learn's interface.

    detector = OgAE(latent_dim=32).fit(x)  # x: (n, d), (n, h, w) or (n, h, w, c)
    scores = detector.score_samples(x_new)  # lower is more anomalous
    detector.calibrate(x_cal, false_alarm=0.01).save("detector.npz")

Each class trains one method of `ocsvm_jax.methods` and has its arguments as parameters.
"""

from ocsvm_jax import extras

with extras.needed_by(__name__, "sklearn"):
    from ocsvm_jax.detectors.base import Detector


class OgAE(Detector, method="ogae"):
    """An autoencoder guided by an exact one-class SVM (arXiv 2507.21164, equation (7))."""


class TurnedOgAE(Detector, method="turned_ogae"):
    """OgAE that also separates images from themselves turned by 180 degrees; images only."""


class EditedOgAE(Detector, method="edited_ogae"):
    """OgAE that also separates images from themselves edited; images only."""


class AE(Detector, method="ae"):
    """An autoencoder, judged by its reconstruction error."""


class VAE(Detector, method="vae"):
    """A variational autoencoder, judged by its reconstruction error."""


class SAE(Detector, method="sae"):
    """A siamese autoencoder, judged by its reconstruction error."""


class DeepSVDD(Detector, method="deep_svdd"):
    """Deep SVDD with a hard boundary, judged by the distance from the centre."""


class SoftDeepSVDD(Detector, method="soft_deep_svdd"):
    """Deep SVDD with a soft boundary, judged by the distance from the centre."""


class DSPSVDD(Detector, method="dspsvdd"):
    """Deep SVDD that goes on reconstructing, judged by the distance from the centre."""


class DVAESVDD(Detector, method="dvaesvdd"):
    """A variational autoencoder with its latents drawn together, judged by their distance."""


__all__ = [
    "AE",
    "DSPSVDD",
    "DVAESVDD",
    "SAE",
    "VAE",
    "DeepSVDD",
    "Detector",
    "EditedOgAE",
    "OgAE",
    "SoftDeepSVDD",
    "TurnedOgAE",
]
