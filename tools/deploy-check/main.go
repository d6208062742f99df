// Checks what deploy/ holds with the libraries of those who will read it: compose files with
// compose-go, Kubernetes manifests by strict decoding into the API types, rules and queries with
// Prometheus's own parsers. The tests in test/integration/deploy-*.test.ts run it; each command reads
// stdin, prints JSON, and ends with 1 and the reason when something does not fit.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/compose-spec/compose-go/v2/cli"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	sigsyaml "sigs.k8s.io/yaml"
)

func main() {
	commands := map[string]func(args []string) (any, error){
		"compose":   compose,
		"manifests": manifests,
		"rules":     rules,
		"queries":   queries,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: deploy-check compose FILE... | manifests | rules | queries")
		os.Exit(2)
	}
	result, err := commands[os.Args[1]](os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// compose loads the files as `docker compose config` does, variables taken from the environment, and
// prints the resolved project.
func compose(files []string) (any, error) {
	options, err := cli.NewProjectOptions(files, cli.WithOsEnv, cli.WithResolvedPaths(true))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

// manifests decodes every document strictly: an unknown or repeated field, a wrong type and an API
// version that Kubernetes does not know are errors. Prints kind, name and the object, defaults unset.
func manifests([]string) (any, error) {
	types := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(types), monitoring.AddToScheme(types)); err != nil {
		return nil, err
	}
	codecs := serializer.NewCodecFactory(types, serializer.EnableStrict)
	reader := yaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	var problems []error
	count := 0
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		var head struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if err := sigsyaml.Unmarshal(document, &head); err != nil {
			return nil, err
		}
		if head.Kind == "" && len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		if head.APIVersion == "" && head.Kind == "" {
			// A template that rendered to comments alone.
			continue
		}
		count++
		if head.APIVersion == scaledObjectVersion && head.Kind == "ScaledObject" {
			err = sigsyaml.UnmarshalStrict(document, &scaledObject{})
		} else {
			_, _, err = codecs.UniversalDeserializer().Decode(document, nil, nil)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s %s: %w\n%s", head.APIVersion, head.Kind, err, document))
		}
	}
	return map[string]int{"documents": count}, errors.Join(problems...)
}

// selector is one `name{label="value"}` of an expression.
type selector struct {
	Metric string   `json:"metric"`
	Labels []string `json:"labels"`
}

// selectors lists what an expression reads; metric names given by a matcher count too.
func selectors(expression string) ([]selector, error) {
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", expression, err)
	}
	var found []selector
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		vector, ok := node.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		one := selector{Metric: vector.Name, Labels: []string{}}
		for _, matcher := range vector.LabelMatchers {
			if matcher.Name == labels.MetricName {
				if one.Metric == "" && matcher.Type == labels.MatchEqual {
					one.Metric = matcher.Value
				}
				continue
			}
			one.Labels = append(one.Labels, matcher.Name)
		}
		slices.Sort(one.Labels)
		found = append(found, one)
		return nil
	})
	return found, nil
}

// rules checks a rule file as promtool does and prints what its expressions read.
func rules([]string) (any, error) {
	content, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	promql := parser.NewParser(parser.Options{})
	groups, problems := rulefmt.Parse(content, false, model.UTF8Validation, promql, slog.Default())
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	type rule struct {
		Alert     string     `json:"alert,omitempty"`
		Record    string     `json:"record,omitempty"`
		Selectors []selector `json:"selectors"`
	}
	found := []rule{}
	for _, group := range groups.Groups {
		for _, one := range group.Rules {
			read, err := selectors(one.Expr)
			if err != nil {
				return nil, err
			}
			found = append(found, rule{one.Alert, one.Record, read})
		}
	}
	return found, nil
}

// queries reads a JSON array of expressions and prints what each of them reads.
func queries([]string) (any, error) {
	var expressions []string
	if err := json.NewDecoder(os.Stdin).Decode(&expressions); err != nil {
		return nil, err
	}
	found := make([][]selector, 0, len(expressions))
	for _, expression := range expressions {
		read, err := selectors(expression)
		if err != nil {
			return nil, err
		}
		found = append(found, read)
	}
	return found, nil
}
