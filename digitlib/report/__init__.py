"""The paper wing: notebooks in, finished report folders out. It knows nothing of training and
imports no torch.
"""

import sys

# jsonschema, which nbformat brings, would compile the grammar of web addresses for a second.
# Without the module it skips a check of formats that notebooks do not have.
sys.modules.setdefault("rfc3987_syntax", None)
