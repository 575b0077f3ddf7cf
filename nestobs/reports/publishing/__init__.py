"""How a notebook becomes a page, and how pages are kept: on a schedule, whole or not at all.

execute         a notebook and parameters in, report.html and report.ipynb out, whole or not at all
kernel          the process a notebook runs in, and the leash it is on; kernel_main is what it starts with
renderer        how a kernel shows a figure without plotly's own renderers
parameters      a notebook's parameters, and words NAME=VALUE read as their types
html            an executed notebook as one page
schedule        a report of a window made once; windows that were missed, made up for
archive         where scheduled reports lie, published in one step, whoever dies when
manifest        what such a report says of itself to programs, without secrets
index           the overview of an archive: index.html and an Atom feed
retention       which reports are old enough to go
"""
