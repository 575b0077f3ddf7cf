"""How a notebook is worked in, in JupyterLab.

working_copy    a copy of a notebook of the project, parameters set
"""
