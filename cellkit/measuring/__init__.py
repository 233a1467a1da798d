"""What measures: audits, boxes, counts, the quality of labels, advice."""
