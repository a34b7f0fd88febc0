/** compose.yaml and kubernetes.yaml: what they say is known to Docker and Kubernetes, and is so of the image. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { readCompose, readKubernetes } from "../support/deployments.ts";
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

describe("kubernetes.yaml", () => {
  test("is what Kubernetes knows: nothing is misspelt, missing or of another type", async () => {
    const { claim, deployment, service } = await readKubernetes();
    const check = async (change: (manifest: string) => string): Promise<string> => {
      const directory = temporaryDirectory();
      try {
        // Literals, because of those alone the compiler refuses properties that it doesn't know.
        await Bun.write(
          join(directory, "manifest.ts"),
          `import type { Deployment } from "kubernetes-types/apps/v1";
           import type { PersistentVolumeClaim, Service } from "kubernetes-types/core/v1";
           export const claim: PersistentVolumeClaim = ${JSON.stringify(claim)};
           export const deployment: Deployment = ${change(JSON.stringify(deployment))};
           export const service: Service = ${JSON.stringify(service)};`,
        );
        symlinkSync(join(root, "node_modules"), join(directory, "node_modules"));
        const options = [
          "--noEmit",
          "--strict",
          "--ignoreConfig",
          "--module",
          "esnext",
          "--moduleResolution",
          "bundler",
        ];
        const tsc = join(root, "node_modules/.bin/tsc");
        const { stdout } = await outcomeOf([tsc, ...options, "--types", "", join(directory, "manifest.ts")]);
        return stdout.replaceAll(/^.*manifest\.ts/gm, "");
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    };
    expect(await check((manifest) => manifest)).toBe("");
    expect(
      await check((manifest) => manifest.replace("readOnlyRootFilesystem", "readOnlyFilesystem")),
    ).toContain("readOnlyFilesystem\"' does not exist");
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

describe("the README's commands that need Docker or a cluster", () => {
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
