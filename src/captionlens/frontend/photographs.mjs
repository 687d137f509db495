// Photographs for a page: dropped anywhere on it, pasted, chosen from files, or the example.

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

// `take(files)` is called with photographs, `missing()` where there is no file at the address `example`.
export function photographs(take, { example, missing }) {
  const drop = document.querySelector(".drop");
  for (const type of ["dragenter", "dragover"])
    document.addEventListener(type, (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      drop.classList.add("over");
    });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    take(event.clipboardData.files);
  });
  const files = document.getElementById("files");
  files.addEventListener("change", () => {
    take(files.files);
    files.value = "";
  });
  document.getElementById("example").addEventListener("click", async () => {
    const answer = await fetch(example).catch(() => null);
    if (answer?.ok) take([new File([await answer.blob()], "example.jpg", { type: "image/jpeg" })]);
    else missing();
  });
}
