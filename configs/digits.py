"""The paper's first experiment at small scale, on scikit-learn's digits: nothing to download.

    python train.py --config=configs/digits.py

Trains on 387 images of digit 3 under three corruptions; tests 3 against 8 under three others. With
so few data the intervals are wide: compare methods with configs/mnistc.py. Takes less than 60 s on
2 CPU cores.
"""

from ml_collections import ConfigDict, FieldReference

from ocsvm_jax.experiments import method_fields


def get_config() -> ConfigDict:
    """See the module docstring."""
    config = ConfigDict()
    config.seed = 0

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.dir = ""  # these digits come with scikit-learn
    config.data.protocol = "paper"  # or "leak_free"
    config.data.normal = (3,)
    config.data.anomalies = (8,)
    config.data.train_corruptions = ("identity", "motion_blur", "translate")
    config.data.test_corruptions = ("stripe", "canny_edges", "brightness")

    # "ogae", "turned_ogae", "edited_ogae", "ae", "vae", "sae", "deep_svdd", "soft_deep_svdd",
    # "dspsvdd" or "dvaesvdd". The arguments of its function in ocsvm_jax/methods are fields, too,
    # with their defaults unless set: --config.method.name=vae --config.method.kl_weight=0.2. Their
    # meaning is documented there: kl_weight weighs the KL divergence summed over latent dimensions,
    # and guidance_weight n_sv times the sum of the misfits, not their mean.
    config.method = method_fields.unset("ogae", latent_dim=32)

    config.train = ConfigDict()
    config.train.epochs = 100
    config.train.batch_size = 50
    config.train.learning_rate = 1e-3
    config.train.held_out = 0.1  # share of the training images held out for early stopping
    config.train.patience = 0  # epochs; 0: never stop early
    config.train.checkpoint_every = 25  # epochs

    config.final = ConfigDict()  # the one-class SVM fitted to all training latents at the end
    config.final.nu = 0.03
    config.final.kernel = "rbf"  # or "laplacian", "linear"; likewise config.method.kernel
    # Of the kernel: a number, "scale" or "auto"; `object`, because these have different types.
    config.final.gamma = FieldReference(0.01, field_type=object)
    config.final.standardize = True

    config.eval = ConfigDict()
    config.eval.resamples = 1000  # of the bootstrap intervals
    return config
