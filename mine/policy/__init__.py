"""What this mine's owner agrees to: a file of settings, the facts that they are about, and a rule for each.

`file` reads the settings, `facts` says what rules may look at, `rules` and `data_rules` judge, `reading` asks the
chain.
"""

from mine.policy.file import Policy
from mine.policy.finding import Finding

__all__ = ["Finding", "Policy"]
