"""The mini GLUE: six tasks cut from installed text, each of the kind of one of GLUE's (W24 Table 1).

    from l2e_min.lab.finetuning.mini_glue import MINI_GLUE, describe, mini_glue, mini_task
    for row in describe(mini_glue()):
        print(row)

Rows are cut from files of the shared split (`finetuning.split`); what simple methods score on them is in
`finetuning.baselines`.
"""

from l2e_min.lab.finetuning.mini_glue.load import MINI_GLUE, describe, mini_glue, mini_task

__all__ = ["MINI_GLUE", "describe", "mini_glue", "mini_task"]
