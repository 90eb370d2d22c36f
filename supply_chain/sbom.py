# SPDX-License-Identifier: Apache-2.0
# Copyright 2026 The marigold_ros developers
"""
Print a bill of materials, CycloneDX 1.6 as JSON: what this environment has installed.

  .venv/bin/python supply_chain/sbom.py > sbom.json      (`make sbom`)

Each distribution has name, version, licence as it states it, and its package URL.
"""

from importlib.metadata import Distribution, distributions
import json
import re
from typing import Any
from urllib.parse import quote

OWN = 'marigold-ros'


def component(found: Distribution) -> dict[str, Any]:
    """Describe one distribution."""
    facts = found.metadata
    name = re.sub('[-_.]+', '-', facts['Name']).lower()
    url = f'pkg:pypi/{name}@{quote(found.version, safe=".")}'
    entry = {'type': 'library', 'bom-ref': url, 'name': name, 'version': found.version}
    stated = facts.get('License-Expression') or facts.get('License') or ''
    licences = [
        line.rpartition('::')[2].strip()
        for line in facts.get_all('Classifier') or ()
        if line.startswith('License ::')
    ]
    licence = stated.strip().partition('\n')[0] or ', '.join(licences)
    return {
        **entry,
        'purl': url,
        **({'licenses': [{'license': {'name': licence}}]} if licence else {}),
    }


def bill() -> dict[str, Any]:
    """Describe the environment, marigold_ros as its subject."""
    found = {one['name']: one for one in map(component, distributions())}
    own = found.pop(OWN, {'type': 'application', 'name': OWN, 'bom-ref': OWN})
    return {
        'bomFormat': 'CycloneDX',
        'specVersion': '1.6',
        'version': 1,
        'metadata': {'component': {**own, 'type': 'application'}},
        'components': [found[name] for name in sorted(found)],
    }


if __name__ == '__main__':
    print(json.dumps(bill(), indent=2))
