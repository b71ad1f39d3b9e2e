// This tab's connection to the mesh by grpc-web, and the signed-in person's access token. The token
// lives in the tab only; the refresh token is never kept, so closing the tab signs out.
import { ConnectError, createClient, createGrpcWebTransport } from "/weft.js";

const KEY = "weft.access";

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  drop: () => sessionStorage.removeItem(KEY),
};

const withToken = (next) => async (request) => {
  if (token.get()) request.header.set("authorization", `Bearer ${token.get()}`);
  return next(request);
};

const transport = createGrpcWebTransport({ baseUrl: location.origin, interceptors: [withToken] });

export const service = (descriptor) => createClient(descriptor, transport);

// What the server said is wrong, for people.
export const explain = (error) => ConnectError.from(error).rawMessage || "The server did not answer.";

// Runs `work` when the form is sent; shows what went wrong in the form's alert.
export function onSubmit(form, work) {
  const alert = form.querySelector("[role=alert]");
  const button = form.querySelector("button[type=submit]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    alert.textContent = "";
    button.disabled = true;
    try {
      await work(Object.fromEntries(new FormData(form)));
    } catch (error) {
      alert.textContent = explain(error);
    } finally {
      button.disabled = false;
    }
  });
}

export const byId = (id) => document.getElementById(id);
