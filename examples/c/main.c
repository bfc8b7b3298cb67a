/* Classifies a picture with a network that mnc compiled to an object file. Plain C11; README.md says how to link it.
 *
 *   digits WEIGHTS PICTURE...
 *
 * Pictures are binary PGM (grey) or PPM (colour) files of the network's input size. Prints a line for each. */
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

static const char *const labels[] = DIGITS_LABELS;

/* Reads all of a file that must have `size` bytes, to an address that suits the network best. */
static void *read_weights(const char *path, size_t size) {
    /* aligned_alloc wants whole multiples of the alignment. */
    void *data = aligned_alloc(DIGITS_ALIGN, (size + DIGITS_ALIGN - 1) / DIGITS_ALIGN * DIGITS_ALIGN);
    FILE *file = fopen(path, "rb");
    int whole = data && file && fread(data, 1, size, file) == size && fgetc(file) == EOF;
    if (file) fclose(file);
    if (whole) return data;
    free(data);
    return NULL;
}

/* Reads a picture into the network's input. Returns what is wrong with it, or NULL. */
static const char *read_picture(const char *path, float *input) {
    int kind, width, height, levels;
    FILE *file = fopen(path, "rb");
    if (!file) return "cannot be opened";
    const char *wrong = NULL;
    if (fscanf(file, "P%d %d %d %d", &kind, &width, &height, &levels) != 4 || (kind != 5 && kind != 6) || levels != 255) {
        wrong = "is not an 8-bit binary PGM or PPM file";
    } else if (width != DIGITS_INPUT_WIDTH || height != DIGITS_INPUT_HEIGHT || (kind == 5 ? 1 : 3) != DIGITS_INPUT_CHANNELS) {
        wrong = "has another size than the network's input";
    } else {
#ifdef DIGITS_MEAN
        static const float mean[] = DIGITS_MEAN, std[] = DIGITS_STD;
#endif
        fgetc(file); /* the one white space before the pixels */
        for (size_t i = 0; i < DIGITS_INPUT_LEN; i++) {
            int pixel = fgetc(file);
            if (pixel == EOF) {
                wrong = "ends too early";
                break;
            }
#ifdef DIGITS_MEAN
            size_t c = i % DIGITS_INPUT_CHANNELS;
            input[i] = ((float)pixel / 255.0f - mean[c]) / std[c];
#else
            input[i] = (float)pixel;
#endif
        }
    }
    fclose(file);
    return wrong;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: %s WEIGHTS PICTURE...\n", argv[0]);
        return 2;
    }
    float *weights = read_weights(argv[1], DIGITS_WEIGHTS_BYTES);
    if (!weights) {
        fprintf(stderr, "%s: not the %d bytes of weights that this network was compiled with\n", argv[1], DIGITS_WEIGHTS_BYTES);
        return 1;
    }
    static float input[DIGITS_INPUT_LEN], output[DIGITS_OUTPUT_LEN], arena[DIGITS_ARENA_BYTES / sizeof(float) + 1];
    int failed = 0;
    for (int i = 2; i < argc; i++) {
        const char *wrong = read_picture(argv[i], input);
        if (wrong) {
            fprintf(stderr, "%s: %s\n", argv[i], wrong);
            failed = 1;
            continue;
        }
        digits_run(weights, input, output, arena);
        int best = 0;
        for (int label = 1; label < DIGITS_OUTPUT_LEN; label++) {
            if (output[label] > output[best]) best = label;
        }
        printf("%s: %s\n", argv[i], labels[best]);
    }
    free(weights);
    return failed;
}
