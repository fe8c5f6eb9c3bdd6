package config

import "slices"

// suggest returns the candidate nearest to name, or "" when none is near enough to be meant.
func suggest(name string, candidates []string) string {
	best, bound := "", max(len(name)/3, 2)+1
	for _, c := range candidates {
		if d := distance(name, c); d < bound {
			best, bound = c, d
		}
	}
	return best
}

// distance is Levenshtein's: the number of single-character edits between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// didYouMean is the tail of an error about an unknown name.
func didYouMean(name string, candidates []string) string {
	if s := suggest(name, candidates); s != "" {
		return ", did you mean " + s + "?"
	}
	return ""
}

// names are the keys and the sections above them.
func (s *Schema) names() []string {
	var ns []string
	for _, k := range s.keys {
		for i, r := range k.Name {
			if section := k.Name[:i]; r == '.' && !slices.Contains(ns, section) {
				ns = append(ns, section)
			}
		}
		ns = append(ns, k.Name)
	}
	return ns
}

func (s *Schema) envNames() []string {
	ns := make([]string, 0, len(s.keys))
	for _, k := range s.keys {
		ns = append(ns, k.Env)
	}
	slices.Sort(ns)
	return ns
}
