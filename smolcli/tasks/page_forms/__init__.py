"""Forms of an answer that are made from pages that were read: text, Markdown, tables, HTML, hOCR, ALTO, JSON, DocTags.

forms.py              the table of forms: render("hocr", pages, "scan.png")
join, paragraphs      lines to paragraphs: hyphens; indents, gaps and short lines; lists; listings (code)
words                 a box for each word of a line
tables                cells and their texts, by rules or by the white between columns
original              where a box is on the picture that was given, before it was turned
page_json             pages as a record's data, and back
doctags, from_reply   a model's reply about a whole page, to pages
searchable_pdf        a PDF with the text where it is printed, of text_layer, glyphless_font and picture_pages
"""
