package check

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const dir = "../kubernetes"

// manifests are the objects of all files.
type manifests struct {
	deployments []*appsv1.Deployment
	sets        []*appsv1.StatefulSet
	jobs        []*batchv1.Job
	services    []*corev1.Service
	configs     []*corev1.ConfigMap
	budgets     []*policyv1.PodDisruptionBudget
	policies    []*networkingv1.NetworkPolicy
}

// read decodes every document strictly: an unknown or doubled field is an error.
func read(t *testing.T) (m manifests) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.yaml")
	require.NoError(t, err)
	for _, f := range files {
		if filepath.Base(f) == "kustomization.yaml" {
			continue
		}
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		for _, doc := range bytes.Split(b, []byte("\n---\n")) {
			m.add(t, f, doc)
		}
	}
	return m
}

func (m *manifests) add(t *testing.T, file string, doc []byte) {
	t.Helper()
	var kind metav1.TypeMeta
	require.NoError(t, yaml.Unmarshal(doc, &kind), file)
	into := func(v any) { require.NoError(t, yaml.UnmarshalStrict(doc, v), "%s: %s", file, kind.Kind) }
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 Namespace":
		into(&corev1.Namespace{})
	case "apps/v1 Deployment":
		m.deployments = append(m.deployments, new(appsv1.Deployment))
		into(m.deployments[len(m.deployments)-1])
	case "apps/v1 StatefulSet":
		m.sets = append(m.sets, new(appsv1.StatefulSet))
		into(m.sets[len(m.sets)-1])
	case "batch/v1 Job":
		m.jobs = append(m.jobs, new(batchv1.Job))
		into(m.jobs[len(m.jobs)-1])
	case "v1 Service":
		m.services = append(m.services, new(corev1.Service))
		into(m.services[len(m.services)-1])
	case "v1 ConfigMap":
		m.configs = append(m.configs, new(corev1.ConfigMap))
		into(m.configs[len(m.configs)-1])
	case "policy/v1 PodDisruptionBudget":
		m.budgets = append(m.budgets, new(policyv1.PodDisruptionBudget))
		into(m.budgets[len(m.budgets)-1])
	case "networking.k8s.io/v1 NetworkPolicy":
		m.policies = append(m.policies, new(networkingv1.NetworkPolicy))
		into(m.policies[len(m.policies)-1])
	default:
		require.Fail(t, "unknown kind", "%s: %s %s", file, kind.APIVersion, kind.Kind)
	}
}

// pods are the templates by name.
func (m *manifests) pods() map[string]corev1.PodTemplateSpec {
	all := map[string]corev1.PodTemplateSpec{}
	for _, d := range m.deployments {
		all[d.Name] = d.Spec.Template
	}
	for _, s := range m.sets {
		all[s.Name] = s.Spec.Template
	}
	for _, j := range m.jobs {
		all[j.Name] = j.Spec.Template
	}
	return all
}

func TestEveryFileIsListedAndOnlyThose(t *testing.T) {
	b, err := os.ReadFile(dir + "/kustomization.yaml")
	require.NoError(t, err)
	var k struct {
		APIVersion, Kind, Namespace string
		Resources                   []string
		Images                      []struct{ Name, NewName, NewTag string }
	}
	require.NoError(t, yaml.UnmarshalStrict(b, &k))
	files, err := filepath.Glob(dir + "/*.yaml")
	require.NoError(t, err)
	require.Len(t, k.Resources, len(files)-1)
	for _, r := range k.Resources {
		require.FileExists(t, filepath.Join(dir, r))
	}
}

func TestEveryPodIsConfined(t *testing.T) {
	m := read(t)
	require.Len(t, m.pods(), 6)
	for name, p := range m.pods() {
		s := p.Spec
		require.False(t, *s.AutomountServiceAccountToken, name)
		require.True(t, *s.SecurityContext.RunAsNonRoot, name)
		require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, s.SecurityContext.SeccompProfile.Type, name)
		for _, c := range s.Containers {
			require.False(t, *c.SecurityContext.AllowPrivilegeEscalation, name)
			require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, name)
			require.Equal(t, []corev1.Capability{"ALL"}, c.SecurityContext.Capabilities.Drop, name)
			for _, r := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				require.False(t, c.Resources.Requests.Name(r, "").IsZero(), "%s asks for %s", name, r)
				require.False(t, c.Resources.Limits.Name(r, "").IsZero(), "%s is limited in %s", name, r)
			}
			for _, e := range c.Env {
				require.NotRegexp(t, "(?i)key|secret|token|password", e.Name, name)
			}
		}
	}
}

// TestRolesAreProbedAndDrained requires of each role what a rolling upgrade under load needs.
func TestRolesAreProbedAndDrained(t *testing.T) {
	m := read(t)
	require.Len(t, m.deployments, 4)
	for _, d := range m.deployments {
		s := d.Spec.Template.Spec
		require.GreaterOrEqual(t, *s.TerminationGracePeriodSeconds, int64(75), d.Name)
		require.GreaterOrEqual(t, *d.Spec.Replicas, int32(2), d.Name)
		require.Zero(t, d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue(), d.Name)
		c := s.Containers[0]
		require.Equal(t, []string{d.Name}, c.Args, "the role is the command")
		require.Equal(t, "/readyz", c.ReadinessProbe.HTTPGet.Path, d.Name)
		require.Equal(t, "/livez", c.LivenessProbe.HTTPGet.Path, d.Name)
		require.NotNil(t, c.StartupProbe, d.Name)
		// Liveness must outlast what readiness reports: a bus that is away is no reason to restart.
		require.Greater(t, c.LivenessProbe.PeriodSeconds*c.LivenessProbe.FailureThreshold, c.ReadinessProbe.PeriodSeconds*c.ReadinessProbe.FailureThreshold)
		keys := false
		for _, v := range s.Volumes {
			keys = keys || v.Secret != nil && v.Secret.SecretName == "millrace-key-"+d.Name
		}
		require.True(t, keys, "%s has its own key and no other", d.Name)
	}
}

// TestReferencesMeet follows every selector, port and name from one object to the other.
func TestReferencesMeet(t *testing.T) {
	m := read(t)
	configs := map[string]bool{}
	for _, c := range m.configs {
		configs[c.Name] = true
	}
	for name, p := range m.pods() {
		mounts := map[string]bool{}
		for _, v := range p.Spec.Volumes {
			mounts[v.Name] = true
		}
		for _, c := range p.Spec.Containers {
			for _, e := range c.EnvFrom {
				require.True(t, configs[e.ConfigMapRef.Name], "%s: no config map %s", name, e.ConfigMapRef.Name)
			}
			for _, v := range c.VolumeMounts {
				require.True(t, mounts[v.Name] || name == "nats" && v.Name == "data", "%s: no volume %s", name, v.Name)
			}
		}
	}
	for _, d := range m.deployments {
		require.True(t, selects(t, d.Spec.Selector, d.Spec.Template.Labels), d.Name)
	}
	for _, b := range m.budgets {
		require.Equal(t, 1, m.selected(t, b.Spec.Selector), "budget %s", b.Name)
		require.Equal(t, 1, b.Spec.MaxUnavailable.IntValue(), b.Name)
	}
	require.Len(t, m.budgets, 5)
	for _, s := range m.services {
		require.Equal(t, 1, m.selected(t, &metav1.LabelSelector{MatchLabels: s.Spec.Selector}), "service %s", s.Name)
	}
	for _, p := range m.policies {
		require.Positive(t, m.selected(t, &p.Spec.PodSelector), "policy %s", p.Name)
	}
}

// TestScrapedServicesExist compares the names in Prometheus's configuration with the services.
func TestScrapedServicesExist(t *testing.T) {
	m := read(t)
	b, err := os.ReadFile("../prometheus/prometheus.yml")
	require.NoError(t, err)
	found := regexp.MustCompile(`([a-z-]+)\.millrace\.svc`).FindAllStringSubmatch(string(b), -1)
	require.Len(t, found, 4)
	for _, f := range found {
		ok := false
		for _, s := range m.services {
			ok = ok || s.Name == f[1] && s.Namespace == "millrace" && strings.EqualFold(s.Spec.ClusterIP, "none") && s.Spec.Ports[0].Port == 8090
		}
		require.True(t, ok, "service %s", f[1])
	}
}

func selects(t *testing.T, s *metav1.LabelSelector, l map[string]string) bool {
	t.Helper()
	sel, err := metav1.LabelSelectorAsSelector(s)
	require.NoError(t, err)
	return sel.Matches(labels.Set(l))
}

func (m *manifests) selected(t *testing.T, s *metav1.LabelSelector) (n int) {
	t.Helper()
	for _, p := range m.pods() {
		if selects(t, s, p.Labels) {
			n++
		}
	}
	return n
}
