"""Documents of invoices: XML by EN 16931, a page to print, and both in one file.

What needs much memory (the typesetter, the XSLT processor) runs in a process of its own, which comes with
the first document and goes when none is wanted.
"""
