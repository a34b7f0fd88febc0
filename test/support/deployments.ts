/** What `deploy/` says, read from its files. */
import type { Deployment } from "kubernetes-types/apps/v1";
import type { PersistentVolumeClaim, Service } from "kubernetes-types/core/v1";
import type { PodDisruptionBudget } from "kubernetes-types/policy/v1";

const directory = new URL("../../deploy/", import.meta.url).pathname;

export const readDeployment = (name: string): Promise<string> => Bun.file(directory + name).text();

export interface ComposeService {
  [key: string]: unknown;
  build: string;
  env_file: string;
  ports: string[];
  volumes: string[];
  stop_grace_period: string;
  ulimits: { nofile: number };
  tmpfs: string[];
}

export async function readCompose() {
  return Bun.YAML.parse(await readDeployment("compose.yaml")) as {
    services: { parley: ComposeService };
    volumes: Record<string, unknown>;
  };
}

/** Of compose.postgres.yaml. */
export async function readManyCompose() {
  return Bun.YAML.parse(await readDeployment("compose.postgres.yaml")) as {
    services: Record<"nginx" | "postgres", Record<string, unknown>> & {
      parley: Pick<ComposeService, "stop_grace_period" | "ulimits"> & {
        scale: number;
        [key: string]: unknown;
      };
    };
    volumes: Record<string, unknown>;
  };
}

/** The resources of kubernetes.yaml, by their kind. */
export async function readKubernetes() {
  const [claim, deployment, service, ...others] = Bun.YAML.parse(await readDeployment("kubernetes.yaml")) as [
    PersistentVolumeClaim,
    Deployment,
    Service,
  ];
  if (others.length > 0) throw new Error("kubernetes.yaml has more resources than are known here");
  const pod = deployment.spec!.template.spec!;
  return { claim, deployment, service, pod, container: pod.containers[0]! };
}

/** Those of kubernetes.postgres.yaml. */
export async function readManyKubernetes() {
  const [deployment, disruptions, service, ...others] = Bun.YAML.parse(
    await readDeployment("kubernetes.postgres.yaml"),
  ) as [Deployment, PodDisruptionBudget, Service];
  if (others.length > 0) throw new Error("kubernetes.postgres.yaml has more resources than are known here");
  const pod = deployment.spec!.template.spec!;
  return { deployment, disruptions, service, pod, container: pod.containers[0]! };
}

/** Seconds of `30s`, `30` or `30s;`. */
export const seconds = (text: string | number): number => {
  const [, digits] = /^(\d+)s?$/.exec(String(text)) ?? [];
  if (digits === undefined) throw new Error(`no seconds: ${text}`);
  return Number(digits);
};

/** The value of a directive or setting that stands once: `name value;` or `name=value`. */
export function settingIn(text: string, name: string): string {
  const found = [...text.matchAll(new RegExp(`^\\s*${name}[ =]([^;\\n]*);?$`, "gm"))];
  if (found.length !== 1) throw new Error(`${name} stands ${found.length} times`);
  return found[0]![1]!;
}
