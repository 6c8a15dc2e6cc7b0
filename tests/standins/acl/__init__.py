"""What the `aclruntime` stand-in is made of; `site/aclruntime.py` puts the names together.

Behaviour follows the public source of the binding in its two generations: `old`, Ascend/tools of June 2023, and `new`,
Ascend/msit of June 2024. What ACL itself would answer is a reading of its manuals; where that is open, the stand-in takes
the stricter answer.
"""
