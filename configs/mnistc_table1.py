"""Table I of the paper: all methods, their grids, five seeds, both protocols, one report.

    python train.py --config=configs/mnistc_table1.py --config.data.dir=PATH_TO_MNIST_C

Results: docs/table1.md; the time they took and the machine: benchmarks/results/table1.md. To
continue a killed run, repeat the command. With --config.quick everything is small and the results
mean nothing: less than 3 minutes on 2 CPU cores. With --config.data.name=digits it runs on
scikit-learn's digits and needs no download.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import mnistc


def get_config() -> ConfigDict:
    """See the module docstring; all other fields are those of configs/mnistc.py."""
    config: Any = mnistc.get_config()
    config.train.checkpoint_every = 5

    config.table = ConfigDict()
    config.table.methods = ()  # names of registered methods, and "pca"; empty: all
    config.table.ablations = True  # rows that leave out a part of a method
    config.table.seeds = (0, 1, 2, 3, 4)
    config.table.protocols = ("paper", "leak_free")
    # "two_stage": on the first seed with `coarse_epochs`, the main axes crossed, the others swept
    # around the best; then the `finalists` best points of every row on all seeds. "full": every
    # point on all seeds (for an accelerator). "defaults": the settings above, no grid.
    # With "two_stage", the settings above of the methods in `card_competes` also run on all seeds.
    config.table.search = "two_stage"
    config.table.coarse_epochs = 4
    config.table.finalists = 2
    config.table.card_competes = ("ogae",)
    config.table.models_at_once = 0  # in one program; 0: one on a CPU, 64 on an accelerator
    config.table.max_images = 0  # per set of images; 0: all
    config.table.alpha = 0.01  # level of both tests over seeds, after Bonferroni
    # 24 rivals need 2,400 for any to be significant at this level.
    config.eval.resamples = 3000

    # One grid per method. "a,b" is one axis whose values set a and b together. What the weights
    # weigh: kl_weight the KL divergence summed over latent dimensions; similarity_weight against
    # half of the squared error of each image of a pair; guidance_weight (lambda) n_sv times the sum
    # of the misfits, 2,500 times their mean in batches of 100, for which the authors write it, too:
    # 1 for the mean is 4e-4 here, and 1e-3 is 4e-7.
    config.table.grids = ConfigDict()
    grids = config.table.grids
    grids.vae = ConfigDict({"kl_weight": (1.0, 0.1, 0.01)})
    grids.sae = ConfigDict(
        {"similarity_weight": (1.0, 0.1, 0.01), "similarity": ("cosine", "squared")}
    )
    grids.ogae = ConfigDict(
        {
            "guidance_weight": (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6),
            "gamma": (0.1, 0.01, 0.001),
            "standardize": (True, False),
            "schedule,betas,betas_second": (
                ("two_phase", (1.0, 0.0), (1.0, 1.0)),
                ("constant", (1.0, 0.0), (1.0, 0.0)),
                ("constant", (0.0, 1.0), (0.0, 1.0)),
                ("constant", (0.5, 0.5), (0.5, 0.5)),
                ("constant", (1.0, 1.0), (1.0, 1.0)),
            ),
            "nu": (0.01, 0.03, 0.1, 0.3, 0.5),
        }
    )
    grids.turned_ogae = ConfigDict(
        {
            "turned_weight": (0.1, 0.01, 0.001),
            "guidance_weight": (0.01, 0.001),
            "stretch": (True, False),
        }
    )
    grids.edited_ogae = ConfigDict({"edited_weight": (1.0, 0.1), "guidance_weight": (1e-3, 0.0)})
    grids.deep_svdd = ConfigDict({"pretrain": (0.0, 0.5)})
    grids.soft_deep_svdd = ConfigDict({"pretrain": (0.0, 0.5), "nu": (0.01, 0.03, 0.1, 0.3, 0.5)})
    grids.dspsvdd = ConfigDict({"reconstruction_weight": (0.1, 1.0, 10.0)})
    grids.dvaesvdd = ConfigDict({"vae_weight": (0.1, 1.0, 10.0), "kl_weight": (1.0, 0.1, 0.01)})
    # The axes crossed in the first stage, if not all.
    config.table.main_axes = ConfigDict()
    config.table.main_axes.ogae = ("guidance_weight", "gamma")
    config.table.main_axes.soft_deep_svdd = ("nu",)
    config.table.main_axes.dvaesvdd = ("vae_weight",)
    config.table.main_axes.turned_ogae = ("turned_weight",)
    config.table.main_axes.sae = ("similarity_weight",)

    # The final one-class SVMs that every run of every method is judged by.
    config.table.finals = ConfigDict(
        {"nu": (0.03,), "gamma": (0.1, 0.01, 0.001), "standardize": (True, False)}
    )

    config.quick = False
    # What --config.quick changes, even if these fields are set on the command line. To change one
    # of them in the quick profile: --config.quick_profile.train.epochs=3.
    config.quick_profile = ConfigDict()
    config.quick_profile.train = ConfigDict({"epochs": 2})
    config.quick_profile.table = ConfigDict(
        {
            "seeds": (0, 1),
            "search": "defaults",
            "max_images": 1200,
            "ablations": False,
            "finals": {"gamma": (0.1, 0.01), "standardize": (True,)},
        }
    )
    config.quick_profile.eval = ConfigDict({"resamples": 200})
    return config
