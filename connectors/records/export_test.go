package records

// Block makes blocks, and so members, of another size.
func (l *Layout) Block(n int) *Layout {
	out := *l
	out.block = n
	return &out
}
