#include <filesystem>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <thread>

#ifdef PADDLE_LIB
#include "paddle_inference_api.h"
#else
#include "paddle_api.h"
#endif

#include "engine.h"

namespace {

class PaddleInference : public Engine {
 public:
  PaddleInference(const char* file, int threads) {
    const std::filesystem::path model(file);
    paddle_infer::Config config(
        model.string(), std::filesystem::path(model).replace_extension(".pdiparams").string());
    config.DisableGlogInfo();
    config.DisableGpu();
    config.SetCpuMathLibraryNumThreads(
        threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency()));
    predictor_ = paddle_infer::CreatePredictor(config);
    // Given up on purpose: see paddle_api.h. They live as long as the process.
    input_ = predictor_->GetInputHandle(predictor_->GetInputNames().at(0)).release();
    output_ = predictor_->GetOutputHandle(predictor_->GetOutputNames().at(0)).release();
  }

  std::vector<float> run(const std::vector<float>& image, int size) override {
    input_->Reshape({1, 3, size, size});
    input_->CopyFromCpu(image.data());
    if (!predictor_->Run()) throw std::runtime_error("Paddle Inference could not run the model");
    const std::vector<int> shape = output_->shape();
    std::vector<float> out(std::accumulate(shape.begin(), shape.end(), 1, std::multiplies<>()));
    output_->CopyToCpu(out.data());
    return out;
  }

 private:
  std::shared_ptr<paddle_infer::Predictor> predictor_;
  paddle_infer::Tensor *input_, *output_;
};

}  // namespace

extern "C" Engine* create_engine(const char* file, int threads, bool features) {
  if (features) throw std::runtime_error("it gives no features; --engine openvino does");
  return new PaddleInference(file, threads);
}
