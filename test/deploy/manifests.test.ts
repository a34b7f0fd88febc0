/** compose.yaml and kubernetes.yaml: what they say is known to Docker and Kubernetes, and is so of the image. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { readCompose, readKubernetes, readManyCompose, readManyKubernetes } from "../support/deployments.ts";
import { readDockerfile } from "../support/dockerfile.ts";
import { outcomeOf } from "../support/processes.ts";
import { readmeSection, shellBlocks } from "../support/readme.ts";
import { temporaryDirectory } from "../support/service.ts";

setDefaultTimeout(60_000);

const root = new URL("../..", import.meta.url).pathname;
const image = readDockerfile(readFileSync(join(root, "Dockerfile"), "utf8"));
const said = (name: string): string => image.findLast((instruction) => instruction.name === name)!.args;
const [user, group] = said("USER").split(":").map(Number);

describe("the image's health check", () => {
  test("is a command of the program", async () => {
    const [program, ...args] = JSON.parse(said("HEALTHCHECK").split("CMD ")[1]!) as string[];
    expect(program).toBe("parley");
    const help = await outcomeOf([process.execPath, "src/main.ts", ...args, "--help"]);
    expect({ exitCode: help.exitCode, stdout: help.stdout.split("\n")[0] }).toEqual({
      exitCode: 0,
      stdout: "parley health [--url URL]",
    });
  });
});

describe("compose.yaml", () => {
  test("builds the Dockerfile, keeps /data, listens on this machine alone and takes its key from a file", async () => {
    const { services, volumes } = await readCompose();
    expect(services).toEqual({
      parley: {
        build: "..",
        restart: "unless-stopped",
        env_file: ".env",
        ports: [`127.0.0.1:8000:${said("EXPOSE")}`],
        volumes: [`data:${said("VOLUME")}`],
        stop_grace_period: expect.stringMatching(/^\d+s$/),
        ulimits: { nofile: expect.any(Number) },
        read_only: true,
        tmpfs: ["/tmp"],
        cap_drop: ["ALL"],
        security_opt: ["no-new-privileges:true"],
      },
    });
    expect(volumes).toEqual({ data: null });
  });

  test("its key file goes neither into the repository nor into the image", async () => {
    expect(readFileSync(join(root, ".gitignore"), "utf8").split("\n")).toContain(".env");
    const lines = readFileSync(join(root, ".dockerignore"), "utf8").trim().split("\n");
    expect(lines[0]).toBe("*");
    expect(lines.slice(1).filter((line) => /deploy|\.env|^[^!]/.test(line))).toEqual([]);
  });
});

/** What a resource is to TypeScript, by the name that it has here. */
const types = {
  claim: 'import("kubernetes-types/core/v1").PersistentVolumeClaim',
  deployment: 'import("kubernetes-types/apps/v1").Deployment',
  disruptions: 'import("kubernetes-types/policy/v1").PodDisruptionBudget',
  service: 'import("kubernetes-types/core/v1").Service',
};

/** What the compiler has against resources. */
async function faultsOf(
  resources: Partial<Record<keyof typeof types, object>>,
  change: (manifest: string) => string = (manifest) => manifest,
): Promise<string> {
  const directory = temporaryDirectory();
  try {
    // Literals, because of those alone the compiler refuses properties that it doesn't know.
    const lines = Object.entries(resources).map(
      ([name, resource]) =>
        `export const ${name}: ${types[name as keyof typeof types]} = ${JSON.stringify(resource)};`,
    );
    await Bun.write(join(directory, "manifest.ts"), change(lines.join("\n")));
    symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
    const options = [
      ...["--noEmit", "--strict", "--ignoreConfig", "--module", "esnext"],
      ...["--moduleResolution", "bundler"],
    ];
    const tsc = join(root, "node_modules/.bin/tsc");
    const { stdout } = await outcomeOf([tsc, ...options, "--types", "", join(directory, "manifest.ts")]);
    return stdout.replaceAll(/^.*manifest\.ts/gm, "");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe("kubernetes.yaml", () => {
  test("is what Kubernetes knows: nothing is misspelt, missing or of another type", async () => {
    const { claim, deployment, service } = await readKubernetes();
    expect(await faultsOf({ claim, deployment, service })).toBe("");
    const misspelt = (manifest: string) => manifest.replace("readOnlyRootFilesystem", "readOnlyFilesystem");
    expect(await faultsOf({ deployment }, misspelt)).toContain("readOnlyFilesystem\"' does not exist");
  });

  test("runs one process at a time on one disk, as the image's user, without any privilege", async () => {
    const { claim, deployment, pod, container } = await readKubernetes();
    expect(deployment.spec).toMatchObject({ replicas: 1, strategy: { type: "Recreate" } });
    expect(claim.spec!.accessModes).toEqual(["ReadWriteOnce"]);
    expect(pod.securityContext).toEqual({
      runAsNonRoot: true,
      runAsUser: user!,
      runAsGroup: group!,
      fsGroup: group!,
      fsGroupChangePolicy: "OnRootMismatch",
      seccompProfile: { type: "RuntimeDefault" },
    });
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    expect(pod.automountServiceAccountToken).toBe(false);
    expect(container.volumeMounts).toEqual([
      { name: "data", mountPath: said("VOLUME") },
      { name: "tmp", mountPath: "/tmp" },
    ]);
    const [data] = pod.volumes!;
    expect(data).toEqual({ name: "data", persistentVolumeClaim: { claimName: claim.metadata!.name! } });
  });

  test("takes its key from a Secret, and holds none", async () => {
    const { container } = await readKubernetes();
    expect(container.envFrom).toEqual([{ secretRef: { name: "parley" } }]);
    expect(container.env).toBeUndefined();
  });

  test("probes what is open to everybody, at the port that the image listens on; its Service finds the pods", async () => {
    const { deployment, service, container } = await readKubernetes();
    expect(container.ports).toEqual([{ name: "http", containerPort: Number(said("EXPOSE")) }]);
    const { livenessProbe, readinessProbe, startupProbe } = container;
    expect(livenessProbe!.httpGet).toEqual({ path: "/health", port: "http" });
    expect(startupProbe!.httpGet).toEqual({ path: "/health", port: "http" });
    expect(readinessProbe!.httpGet).toEqual({ path: "/ready", port: "http" });
    const { labels } = deployment.spec!.template.metadata!;
    expect(deployment.spec!.selector.matchLabels).toEqual(labels!);
    expect(service.spec!.selector).toEqual(labels!);
    expect(service.spec!.ports).toEqual([{ name: "http", port: 80, targetPort: "http" }]);
  });
});

describe("compose.postgres.yaml", () => {
  test("runs three of what compose.yaml runs, which keep nothing, behind nginx on this machine alone", async () => {
    const one = (await readCompose()).services.parley;
    const { services, volumes } = await readManyCompose();
    const { ports, volumes: _, ...same } = one;
    expect(services.parley).toEqual({
      ...same,
      scale: 3,
      environment: { PARLEY_TRUSTED_PROXIES: 1 },
      depends_on: { postgres: { condition: "service_healthy" } },
      tmpfs: [said("VOLUME"), "/tmp"],
    });
    expect(services.nginx).toMatchObject({
      ports: ["127.0.0.1:8000:80"],
      volumes: ["./nginx.instances.conf:/etc/nginx/conf.d/default.conf:ro"],
    });
    const nginx = readFileSync(join(root, "deploy/nginx.instances.conf"), "utf8");
    expect(nginx).toContain(`set $instances parley:${said("EXPOSE")};`);
    expect(nginx).toContain("listen 80;");
    expect(services.postgres.volumes).toEqual(["postgres:/var/lib/postgresql"]);
    expect(volumes).toEqual({ postgres: null });
  });
});

describe("kubernetes.postgres.yaml", () => {
  test("is what Kubernetes knows", async () => {
    const { deployment, disruptions, service } = await readManyKubernetes();
    expect(await faultsOf({ deployment, disruptions, service })).toBe("");
    const misspelt = (manifest: string) => manifest.replace("maxUnavailable", "unavailableMax");
    expect(await faultsOf({ disruptions }, misspelt)).toContain("unavailableMax");
  });

  test("is as kubernetes.yaml, but for a disk and for how one goes when another comes", async () => {
    const one = await readKubernetes();
    const many = await readManyKubernetes();
    expect(many.service).toEqual(one.service);
    const { env, volumeMounts, ...container } = many.container;
    const { volumeMounts: _mounts, ...sameContainer } = one.container;
    expect(container).toEqual(sameContainer);
    expect(volumeMounts).toEqual([{ name: "tmp", mountPath: "/tmp" }]);
    expect(env).toEqual([
      { name: "DATABASE_URL", valueFrom: { secretKeyRef: { name: "parley", key: "DATABASE_URL" } } },
    ]);
    const { containers: _, volumes, securityContext, topologySpreadConstraints, ...pod } = many.pod;
    const { containers: _one, volumes: _volumes, securityContext: ofOne, ...samePod } = one.pod;
    expect(pod).toEqual(samePod);
    expect(volumes!.map(({ name }) => name)).toEqual(["tmp"]);
    const { fsGroup: _group, fsGroupChangePolicy: _policy, ...sameContext } = ofOne!;
    expect(securityContext).toEqual(sameContext);
    const { labels } = many.deployment.spec!.template.metadata!;
    expect(topologySpreadConstraints!.map(({ labelSelector }) => labelSelector!.matchLabels)).toEqual([
      labels!,
    ]);
    expect(many.deployment.spec).toMatchObject({
      replicas: 3,
      strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      selector: { matchLabels: labels },
    });
    expect(many.disruptions.spec).toEqual({ maxUnavailable: 1, selector: { matchLabels: labels! } });
  });
});

describe("the README's commands that need Docker or a cluster", () => {
  test("name the files, the Secrets and the port of many instances", async () => {
    const [, compose, kubernetes] = await shellBlocks("Many instances");
    expect(compose).toEndWith("docker compose -f deploy/compose.postgres.yaml up --build --detach\n");
    const { services } = await readManyCompose();
    const user = (services.postgres.environment as Record<string, string>).POSTGRES_USER;
    expect(compose).toContain(`DATABASE_URL=postgres://${user}:$PASSWORD@postgres/${user}`);
    expect(compose).toContain("POSTGRES_PASSWORD=$PASSWORD");
    const { container } = await readManyKubernetes();
    const { name, key } = container.env![0]!.valueFrom!.secretKeyRef!;
    expect(kubernetes).toStartWith(`kubectl create secret generic ${name!} --from-literal=PARLEY_API_KEYS=`);
    expect(kubernetes).toContain(`--from-literal=${key}=postgres://`);
    expect(kubernetes).toEndWith("\nkubectl apply -f deploy/kubernetes.postgres.yaml\n");
  });

  test("name the files, the Secret, the port and the volume that there are", async () => {
    const [, docker, kubernetes] = await shellBlocks("Deploying");
    const { container } = await readKubernetes();
    expect(docker).toContain("> deploy/.env)\ndocker compose -f deploy/compose.yaml up ");
    const secret = container.envFrom![0]!.secretRef!.name;
    expect(kubernetes).toStartWith(`kubectl create secret generic ${secret} --from-literal=PARLEY_API_KEYS=`);
    expect(kubernetes).toEndWith("\nkubectl apply -f deploy/kubernetes.yaml\n");
    const [, run] = /`(docker run [^`]+)`/.exec(await readmeSection("Deploying"))!;
    const places = `-p 127.0.0.1:8000:${said("EXPOSE")} -v parley:${said("VOLUME")}`;
    expect(run).toBe(`docker run -d ${places} --env-file deploy/.env parley`);
  });
});
