# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Distil a checkpoint's autoencoder into a small one, several times faster.

    python training/distill_autoencoder.py training/recipes/distill.yaml --out runs/distill
    python -m marigold_ros predict image.jpg --vae runs/distill/tiny-vae

It resumes, stops and reads its data as finetune.py does, and finally prints errors and times of
both autoencoders. The exported folder is for `vae=` of load_model, and for diffusers.
"""

from __future__ import annotations

from finetune import main

if __name__ == '__main__':
    code = main(__doc__, distil=True)
    from marigold_training.run.accelerator import leave

    leave(code)
