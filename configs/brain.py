"""The paper's second experiment: brain MRI, one one-class SVM per voxel; maps, tables, pictures.

    python train.py --config=configs/brain.py
    python train.py --config=configs/brain.py --config.data.dir=FOLDER   # your own volumes

Without a folder the volumes are synthetic brains, made from the MNI152 template that comes with
nilearn (pip install 'ocsvm_jax[mri]'); their results do not carry over to real patients. A folder
holds <cohort>/<subject>_T1.nii.gz, registered to one space, with _mask and _lesion files beside
them where they exist; name its cohorts below. Three seeds take about an hour on 2 CPU cores. All
volumes are held in memory, 6 bytes per voxel and subject; ocsvm_jax/experiments/brain/maps.py
describes the rest.
"""

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
    """See the module docstring."""
    config = ConfigDict()
    config.seeds = (0, 1, 2)
    # "ogae", "sae" and "ae" use the settings in `method` and `final` below; "ogae_paper" and
    # "sae_paper" use the paper's settings and learning rate instead; "pca" replaces the encoder by
    # principal components; "darkness", "minus_z" and "mahalanobis" are trivial baselines.
    config.methods = (
        "ogae",
        "sae",
        "ae",
        "pca",
        "ogae_paper",
        "sae_paper",
        "darkness",
        "minus_z",
        "mahalanobis",
    )

    config.data = ConfigDict()
    config.data.dir = ""  # folder of NIfTI volumes; "" for the synthetic population
    config.data.profile = "full"  # size of the synthetic population; or "ci"
    config.data.phantom_seed = 0
    config.data.lesions = ""  # folder of real lesion masks for the synthetic population
    config.data.train = "train"  # names of cohorts
    config.data.held_out = "valid"  # normal; for early stopping and the threshold of "Dice at 1%"
    # Each arm is a group of test cohorts, named <arm>_<controls> and <arm>_<patients>; a single arm
    # "" has cohorts without a prefix. Controls may be "": then whole images are not evaluated.
    config.data.arms = ("matched", "confounded", "no_shift")
    config.data.controls = "controls"
    config.data.patients = ("wmh", "tumour")
    config.data.image = "{subject}_T1.nii.gz"
    config.data.mask = "{subject}_mask.nii.gz"
    config.data.lesion = "{subject}_lesion.nii.gz"
    config.data.lesion_outside = "error"  # if a lesion leaves the brain mask; or "clip" it there
    config.data.exclude = "ventricles.nii.gz"  # voxels that the image score ignores; "" for none
    config.data.slices = ()  # z of axial slices in mm; () for all
    config.data.intensity = "percentile"  # or "minmax" (the paper's), "none"
    config.data.present = 0.5  # maps are made where this share of training subjects has brain

    config.method = ConfigDict()
    config.method.order = "activation_norm"  # or "norm_activation"
    config.method.centre_sd = 2.0  # pixels; weights of the reconstruction error, 0: all equal
    config.method.guidance_weight = 1e-2  # lambda in the paper; "ogae"
    config.method.nu = 0.03
    config.method.gamma = FieldReference(0.01, field_type=object)  # a number, "scale" or "auto"
    config.method.standardize = False
    config.method.differentiate_dual = True
    config.method.schedule = "constant"  # or "two_phase"
    config.method.betas = (1.0, 1.0)  # (expander, compactor)
    config.method.betas_second = (1.0, 1.0)
    config.method.similarity_weight = 0.05  # alpha in the paper; "sae"

    config.train = ConfigDict()
    config.train.epochs = 10
    config.train.steps = 250  # per epoch
    config.train.locations = 16  # per step, each with the patches of all subjects
    config.train.learning_rate = 3e-3
    config.train.patience = 0  # epochs; 0: never stop early
    config.train.checkpoint_every = 1  # epochs

    config.final = ConfigDict()  # the one-class SVM of each voxel
    config.final.nu = 0.03
    config.final.gamma = FieldReference(0.3, field_type=object)
    config.final.standardize = True  # each latent dimension, over the subjects at the voxel
    # "-f" is the paper's; "log" ranks the same at a voxel, but never saturates across voxels.
    config.final.scores = ("-f", "log")

    config.maps = ConfigDict()
    config.maps.block = 0  # locations on a device at a time; 0: as suits the device
    config.maps.nifti = "first_seed"  # score volumes to write; or "all", "none"

    config.eval = ConfigDict()
    config.eval.resamples = 2000  # p < 0.01 with 12 rivals needs 1,200: evaluation/comparison.py
    config.eval.median = 3  # post-processing: side of the median filter, voxels
    config.eval.erosion = 2  # of the brain mask, voxels
    return config
