# Node's image has npm, and the npm package `bun` has Bun: the version that package.json pins.
FROM node:22-bookworm-slim AS build
WORKDIR /parley
COPY package.json bun.lock bunfig.toml ./
RUN npm install --global "bun@$(node -p 'require("./package.json").dependencies.bun')" \
 && bun install --frozen-lockfile --production
COPY tsconfig.json ./
COPY src src
RUN bun run build

# glibc is all that the binary needs; a shell is for whoever has to look inside.
FROM debian:bookworm-slim
COPY --from=build /parley/dist/parley /usr/local/bin/parley
# A volume takes its first owner and mode from here. The user has a number and no name, which is all that it needs.
RUN install -d -m 700 -o 10001 -g 10001 /data
ENV PARLEY_HOST=0.0.0.0 PARLEY_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=6s --start-period=10s CMD ["parley", "health"]
ENTRYPOINT ["parley"]
CMD ["serve"]
