"""The paper's first experiment in small, on scikit-learn's handwritten digits: nothing to download.

    python train.py --config=configs/digits.py

387 training images of digit 3 under three corruptions; 3 against 8 under three others. The data
are few: intervals are wide, and the experiment to compare methods by is configs/mnistc.py. Under
60 s on 2 CPU cores.
"""

from ml_collections import ConfigDict, FieldReference


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

    config.method = ConfigDict()
    # "ogae", "turned_ogae", "ae", "vae", "sae", "deep_svdd", "soft_deep_svdd", "dspsvdd",
    # "dvaesvdd"
    config.method.name = "ogae"
    config.method.latent_dim = 32
    # The guidance of "ogae"; nu also of "soft_deep_svdd".
    config.method.guidance_weight = 1e-3  # lambda of the paper
    config.method.nu = 0.03
    # Of the RBF kernel: a number, "scale" or "auto"; `object`, because these are of two types.
    config.method.gamma = FieldReference(0.1, field_type=object)
    config.method.standardize = True
    config.method.differentiate_dual = True
    config.method.schedule = "two_phase"  # or "constant"
    config.method.betas = (1.0, 0.0)  # (expander, compactor)
    config.method.betas_second = (1.0, 1.0)  # from half of the epochs on
    config.method.last_m = 10
    # Of the other methods.
    config.method.kl_weight = 0.1  # beta_KL: "vae", "dvaesvdd"
    config.method.similarity = "cosine"  # or "squared": "sae"
    config.method.similarity_weight = 0.1  # alpha: "sae"
    config.method.pretrain = 0.5  # share of the epochs: "deep_svdd", "soft_deep_svdd", "dspsvdd"
    config.method.reconstruction_weight = 1.0  # gamma of the paper: "dspsvdd"
    config.method.vae_weight = 1.0  # alpha: "dvaesvdd"
    config.method.turned_weight = 0.1  # lambda_T: "turned_ogae"
    config.method.stretch = True  # each image to its full range first: "turned_ogae"

    config.train = ConfigDict()
    config.train.epochs = 100
    config.train.batch_size = 50
    config.train.learning_rate = 1e-3
    config.train.held_out = 0.1  # share of the training images that decides on early stopping
    config.train.patience = 0  # epochs; 0: never stop early
    config.train.checkpoint_every = 25  # epochs

    config.final = ConfigDict()  # the one-class SVM fitted to all training latents at the end
    config.final.nu = 0.03
    config.final.gamma = FieldReference(0.01, field_type=object)
    config.final.standardize = True

    config.eval = ConfigDict()
    config.eval.resamples = 1000  # of the bootstrap intervals
    return config
