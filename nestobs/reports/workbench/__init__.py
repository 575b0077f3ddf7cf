"""How a notebook is worked in, in JupyterLab.

working_copy    a copy of a notebook of the project, parameters set
given           what the first cell gives, of the kinds that are wanted
jupyterlab      captions as wide as figures, and what is under way where a cell takes long
"""
