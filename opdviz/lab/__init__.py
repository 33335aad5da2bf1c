"""Small language models trained on a laptop, so that the papers' claims about training can be
tried.
"""
