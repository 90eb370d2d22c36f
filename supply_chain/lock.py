# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Write the lock files of this Python and platform: each package with version and SHA-256.

  .venv/bin/python supply_chain/lock.py      (`make lock`)

pip evaluates markers for the Python that it runs in alone, so each Python has locks of its own:
`NAME.txt` is what runs, `NAME-dev.txt` what `make test` adds. PyTorch and what its build for GPUs
brings are left out: which build is installed is the user's choice.
"""

from collections.abc import Sequence
import json
from pathlib import Path
import re
import subprocess
import sys
import sysconfig
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
RUN, DEV = ('requirements.txt', 'requirements-ros.txt'), ('requirements-dev.txt',)
OF_TORCH = re.compile(r'torch|triton|nvidia-.*|cuda-.*')


def resolve(files: Sequence[str], constraints: str) -> dict[str, tuple[str, str]]:
    """Return version and SHA-256 of each package that the files lead to, by name."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'constraints.txt'
        path.write_text(constraints)
        report = Path(folder) / 'report.json'
        command = [sys.executable, '-m', 'pip', 'install', '--quiet', '--dry-run']
        command += ['--ignore-installed', '--report', str(report)]
        command += ['--constraint', str(path), *(f'-r{name}' for name in files)]
        subprocess.run(command, cwd=ROOT, check=True)
        found = json.loads(report.read_text())['install']
    return {
        re.sub('[-_.]+', '-', item['metadata']['name']).lower(): (
            item['metadata']['version'],
            item['download_info']['archive_info']['hashes']['sha256'],
        )
        for item in found
    }


def main() -> None:
    """Write both files."""
    name = f'python3.{sys.version_info.minor}-{sysconfig.get_platform()}'
    run = resolve(RUN, '')
    exact = ''.join(f'{package}=={version}\n' for package, (version, _) in run.items())
    everything = resolve((*RUN, *DEV), exact)
    added = {package: facts for package, facts in everything.items() if package not in run}
    for ending, packages in (('', run), ('-dev', added)):
        lines = [
            f'{package}=={version} --hash=sha256:{digest}\n'
            for package, (version, digest) in sorted(packages.items())
            if not OF_TORCH.fullmatch(package)
        ]
        head = (
            '# Written by `make lock`; packages of this Python and platform, by their SHA-256.\n'
        )
        path = ROOT / 'supply_chain' / f'{name}{ending}.txt'
        path.write_text(head + ''.join(lines))
        print(f'{path}: {len(lines)} packages')


if __name__ == '__main__':
    main()
