"""Advice on one model and one domain: should the model be adapted to these texts?"""
